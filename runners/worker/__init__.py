"""A worker: its assembly, its loop, its storage and its reports, the same on every host."""
