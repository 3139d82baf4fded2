"""Keyed steps: keys, state cells, timers, and the stateful DoFns that use them."""
