"""The memory that groupings share, and what of it is on disk."""
