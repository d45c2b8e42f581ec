"""The commands: a thin module for each, which calls the package that does the work."""
