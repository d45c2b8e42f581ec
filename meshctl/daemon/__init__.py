"""The daemon as a process: its loop, lock, retries, wake-ups, alerts, metrics."""
