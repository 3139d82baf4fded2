"""What does not fit in memory: runs on disk, and the accounting that decides when."""
