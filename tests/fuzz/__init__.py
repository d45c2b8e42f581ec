"""Coverage-guided fuzzing of what reads other people's files; not part of any suite."""
