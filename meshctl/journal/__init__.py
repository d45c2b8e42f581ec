"""The log: what is said, how a line looks, where it goes, and how it is read back."""
