"""Cutting the power: in a model, at every step and in every way that a file system allows, and for real."""
