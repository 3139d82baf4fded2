"""The one meaning of a job: operators over blocks, windows, triggers, keyed state, timers and watermarks.

No I/O, no wall clock, no threads and no randomness: a host hands them in.
"""
