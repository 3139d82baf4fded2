"""Nexmark: an auction site's events and thirteen queries over them, as Beam pipelines with plain-Python references.

The queries take a PCollection of events with event times and a `Config`; nothing in them knows whether the events end.
"""
