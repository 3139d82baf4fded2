"""Benchmarks: ratios against peers measured in the same run (see README.md beside this file)."""
