"""A host that is not real: workers, network, clock and disk in one thread, under a seed, with crashes.

The engine, the protocol of checkpoints and their storage are the real ones. What surrounds them is simulated, so that a
seed decides everything: which worker runs next, how long a message takes, what is lost when the power fails.
"""
