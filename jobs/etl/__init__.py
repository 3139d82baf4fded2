"""A batch ETL job: two tables of CSV or JSON lines in, cleaned, joined, Parquet and SQLite out.

It writes into ``--output``, here with the table name of the default configuration:

===========================  =====================================================================================
``orders_enriched.parquet``  one row for each order, with its customer's columns beside it
``etl.sqlite``               the same rows in the table ``orders_enriched``, upserted by key
``dead_letters.jsonl``       every row that was refused: file (``source``), ``line``, ``step``, ``reason``, ``payload``
===========================  =====================================================================================

Try it with sample data, which has bad rows in it on purpose::

    python -m sage.jobs.etl.sample data
    sage run sage.jobs.etl -- --input orders='data/orders-*.csv' --input customers='data/customers*.jsonl' --output out

For your own tables, describe them in a JSON file (``sage.jobs.etl.config`` says how) and add ``--config FILE``.
Running the job twice with the same input changes nothing: files come out with the same bytes, and rows of the
database that are already equal are not touched.
"""

from __future__ import annotations

from sage.jobs.etl.job import build, main

__all__ = ["build", "main"]
