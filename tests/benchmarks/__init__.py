"""How fast meshctl is, beside the plain durable loop that does only what cannot be left out.

`python -m tests.benchmarks` prints the table; nothing here is a test with a time limit.
"""
