"""The tests: architecture holds the law, the other folders hold what the code means."""
