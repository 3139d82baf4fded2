"""A stream into every kind of sink, as a program that can be killed: ``python -m tests.recovery.sinks_job ...``."""

from __future__ import annotations

import sys

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from sage.runners.local import LocalRunner
from sage.sources import ReadStream
from sage.transforms.io import WriteAvro, WriteJsonLines, WriteParquet, WriteText, WriteToPostgres, WriteToSqlite
from tests.recovery.streams import Numbers

AVRO = {
    "type": "record",
    "name": "Number",
    "fields": [{"name": "split", "type": "string"}, {"name": "n", "type": "long"}],
}
COLUMNS = {"split": "text", "n": "integer"}


def build(pipeline: beam.Pipeline, upto: int, rate: int, folder: str, dsn: str) -> None:
    """The numbers, into sinks below a folder and a database."""
    rows = (
        pipeline
        | "numbers" >> ReadStream(Numbers(upto, rate))
        | "rows" >> beam.MapTuple(lambda split, n: {"split": split, "n": n})
    )
    rows | WriteJsonLines(f"{folder}/json", suffix=".jsonl.gz", max_file_bytes=20_000, existing="refuse")
    rows | WriteParquet(f"{folder}/parquet", existing="refuse")
    rows | WriteAvro(f"{folder}/avro", AVRO, destination=lambda row: f"split={row['split']}", existing="refuse")
    lines = rows | "lines" >> beam.Map(lambda row: f"{row['split']} {row['n']}")
    lines | WriteText(f"{folder}/text", destination="second=%S", existing="refuse")
    rows | "added" >> WriteToSqlite(f"{folder}/added.sqlite", "numbers", COLUMNS)
    rows | "upserted" >> WriteToSqlite(f"{folder}/upserted.sqlite", "numbers", COLUMNS, key=["split", "n"])
    rows | WriteToPostgres(dsn, "numbers", COLUMNS)


def main() -> None:
    """Runs it; arguments: how many numbers, how many a second, the folder, the database, options."""
    upto, rate, folder, dsn, *options = sys.argv[1:]
    pipeline = beam.Pipeline(LocalRunner(), options=PipelineOptions(options))
    build(pipeline, int(upto), int(rate), folder, dsn)
    pipeline.run().wait_until_finish()


if __name__ == "__main__":
    main()
