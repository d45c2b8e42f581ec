"""From what the MESH Client leaves in SENT, FAILED, OUT and IN to what is known of each message."""
