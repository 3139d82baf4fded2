"""Checkpoints: what a stage holds at a barrier, and the protocol that makes one durable for the whole job."""
