"""The ledger: every message and its history, in one SQLite file."""
