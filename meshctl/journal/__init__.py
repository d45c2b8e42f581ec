"""The log: its events, how a line looks, where it goes, and how it is read back."""
