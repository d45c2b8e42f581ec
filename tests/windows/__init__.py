"""meshctl on Windows: CPython and the packages of Windows, run by Wine."""
