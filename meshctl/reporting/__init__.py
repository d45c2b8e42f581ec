"""The report of a period: what the ledger holds of it, counted, drawn and written as one HTML page."""
