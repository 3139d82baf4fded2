"""A streaming job: orders joined with their payments, what each customer owes, and alerts when time has passed.

    sage run sage.jobs.orders                          an endless stream, generated here; Ctrl-C ends it, and the next
                                                       run goes on where this one was
    sage run sage.jobs.orders -- --events 100000       the first so many orders of it
    sage run sage.jobs.orders -- --kafka host:9092     topics `orders` and `payments` in, `settlements` and `alerts` out

It takes a checkpoint every ten seconds (``--checkpoint_interval``) and writes each result exactly once into
``--output``, whatever crashes:

====================  ==============================================================================================
``settlements/``      what became of each order: paid, underpaid, overpaid, unpaid; and payments that fit no order
``alerts/``           several unpaid orders in a row, a customer who has gone quiet, a payment without an order
``orders.sqlite``     tables ``customers`` (a row each), ``alerts``, ``revenue`` (a row for each window and status)
``dead_letters/``     messages that are no orders and no payments, with the reason
``checkpoints/``      where the job stands
====================  ==============================================================================================

With Kafka, settlements and alerts are topics in place of folders; ``python -m sage.jobs.orders.feed`` fills the topics
that are read with the generated stream.
"""

from __future__ import annotations

from sage.jobs.orders.job import build, main

__all__ = ["build", "main"]
