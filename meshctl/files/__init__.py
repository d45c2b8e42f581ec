"""Files: made durable, opened safely, and the MESH Client's folders."""
