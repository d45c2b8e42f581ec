"""Follow each message by what the MESH Client leaves in SENT, FAILED, OUT and IN."""
