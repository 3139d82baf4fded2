"""A PostgreSQL server for the tests: one that is named, or one that is started for them."""
