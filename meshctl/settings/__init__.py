"""The settings of one mailbox: read, checked as a whole, and frozen."""
