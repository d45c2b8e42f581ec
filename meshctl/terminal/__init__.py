"""What commands share: options, tables and views, dropping and following a file."""
