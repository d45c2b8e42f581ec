"""The background daemon: one loop, its lock, its wake-ups, its signals."""
