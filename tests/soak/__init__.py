"""The soak: `python -m tests.soak --minutes 5`. Files all the time, kills every few seconds, nothing lost."""
