"""Tests of meshctl against everybody else who uses its folders."""
