"""One module a command; each is thin and calls the part that does the work."""
