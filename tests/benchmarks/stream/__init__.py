"""Streams against peers: Nexmark without an end, Kafka to Kafka exactly once, latency behind a checkpoint.

Every peer runs in an interpreter that has it (`interpreters`), so what it is measured by imports nothing but the
standard library and the peer itself.
"""
