"""The daemon as a process: its sessions, lock, retries, wake-ups, alerts, metrics."""
