"""Groupings: values or accumulators by key and window, and when they are put out."""
