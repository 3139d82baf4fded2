"""Templates: metadata and parameters that name a job by its dotted name, to be launched without writing code.

There are no templates in this package yet.
"""
