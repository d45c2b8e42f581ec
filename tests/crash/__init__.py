"""Killing meshctl at every system call that changes something, and cutting its power; then judging the rest.

`python -m tests.crash` does all of it and prints the table that the README quotes.
"""
