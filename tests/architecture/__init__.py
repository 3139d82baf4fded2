"""The law of the house, held over the source as it is: imports, budgets, packaging, docstrings."""
