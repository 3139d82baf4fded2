"""The vocabulary: Beam transforms that jobs are made of, written against Beam's public API only.

`sage.transforms.io` reads and writes, `sage.transforms.dead_letter` says what happened to rows that could not be
used, `sage.transforms.clean` turns raw records into typed ones. `sage.transforms.joins` joins, `deduplicate` and `top`
keep some of many, `late` gives what came too late to an output of its own.
"""
