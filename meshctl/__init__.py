"""meshctl: files in, letters delivered: a background daemon beside the NHS MESH Client."""

__version__ = "0.1.0"
