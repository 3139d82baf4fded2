"""One suite for all runners."""
