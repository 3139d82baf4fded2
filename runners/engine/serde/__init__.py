"""Values, windows and blocks as bytes that mean the same in another process."""
