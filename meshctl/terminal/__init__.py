"""What commands share at a terminal: options, tables, views, following a file."""
