"""The ledger: what is known of every message, in one SQLite file."""
