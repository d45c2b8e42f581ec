"""The report of a period: its messages in the ledger, counted, drawn and written as one HTML page."""
