"""The pipeline of the ETL job: plain batch Beam, so that it runs the same on every runner."""

# Annotations are evaluated here, not postponed: Beam reads them as type hints and takes a string for Any.
import argparse
import collections
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from sage.errors import ConfigError
from sage.jobs.arguments import parse_arguments
from sage.jobs.etl.config import EtlConfig, InputConfig, load_config
from sage.transforms.clean import Clean, KeepFirst, key_text
from sage.transforms.dead_letter import DEAD, GOOD, DeadLetter, Located, ReadResult
from sage.transforms.io.csv_files import ReadCsv
from sage.transforms.io.files import existing_files
from sage.transforms.io.json_lines import ReadJsonLines, WriteJsonLines
from sage.transforms.io.parquet import WriteParquet
from sage.transforms.io.sqlite import WriteToSqlite

__all__ = ["Lookup", "Parameters", "build", "main"]

_READERS: dict[str, Any] = {"csv": ReadCsv, "jsonl": ReadJsonLines}


class Parameters(NamedTuple):
    """What the job is told.

    Attributes:
        config: the tables and their join.
        files: the files of each input, by the input's name.
        output: the folder to write into.
    """

    config: EtlConfig
    files: Mapping[str, list[str]]
    output: str

    @classmethod
    def parse(cls, argv: Sequence[str] | None) -> tuple["Parameters", PipelineOptions]:
        """The parameters in ``argv`` (default: the program's), and the pipeline options in the rest.

        Raises:
            ConfigError: the configuration is wrong, an input is unknown or missing, or matches no readable file, or
                an option is unknown.
        """
        parser = argparse.ArgumentParser(
            prog="sage run sage.jobs.etl --", allow_abbrev=False, description="Clean two tables and join them."
        )
        parser.add_argument(
            "--input",
            action="append",
            default=[],
            metavar="NAME=FILES",
            help="files of one input, a path or a quoted glob; repeat it for more inputs or more files",
        )
        parser.add_argument(
            "--config", metavar="FILE", help="JSON description of the tables (default: that of the sample data)"
        )
        parser.add_argument(
            "--output",
            metavar="DIR",
            default=os.path.join("out", "etl"),
            help="folder to write into (default: %(default)s)",
        )
        known, options = parse_arguments(parser, argv)
        config = load_config(known.config)
        return cls(config, _input_files(known.input, config), known.output), options

    def path(self, name: str) -> str:
        """The path of a file in the output folder."""
        return FileSystems.join(self.output, name)


def _input_files(given: Sequence[str], config: EtlConfig) -> dict[str, list[str]]:
    names = [config.left.name, config.right.name]
    patterns: dict[str, list[str]] = {name: [] for name in names}
    for text in given:
        name, _, pattern = text.partition("=")
        if name not in patterns or not pattern:
            raise ConfigError(f"--input {text!r}: write it as NAME=FILES, where NAME is {' or '.join(names)}")
        patterns[name].append(pattern)
    missing = [name for name, found in patterns.items() if not found]
    if missing:
        raise ConfigError(
            f"--input {missing[0]}=FILES is missing. For sample data: python -m sage.jobs.etl.sample data, then "
            "--input orders='data/orders-*.csv' --input customers=data/customers.jsonl"
        )
    return {name: existing_files(found, f"{name} input") for name, found in patterns.items()}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the job and say what came of it.

    Args:
        argv: the job's parameters and any Beam options (default: the program's arguments).

    Raises:
        ConfigError: a parameter is wrong; nothing has run.
    """
    parameters, options = Parameters.parse(argv)
    with beam.Pipeline(options=options) as pipeline:
        build(pipeline, parameters)
    print(_outcome(parameters))


def build(pipeline: beam.Pipeline, parameters: Parameters) -> None:
    """Add the job's steps to a pipeline."""
    config = parameters.config
    left, left_dead = _table(pipeline, config.left, parameters)
    right, right_dead = _table(pipeline, config.right, parameters)
    joined, unmatched = {"left": left, "right": right} | "Join" >> Lookup(config)

    rows = joined | "Values" >> beam.Map(_value).with_output_types(dict[str, Any])
    rows | "WriteParquet" >> WriteParquet(
        parameters.path(f"{config.table}.parquet"), config.result.arrow_schema(), sort_by=config.result.key
    )
    rows | "WriteSqlite" >> WriteToSqlite(
        parameters.path("etl.sqlite"), config.table, config.result.sql_columns(), config.result.key
    )
    dead = [*left_dead, *right_dead, unmatched]
    (
        dead
        | "DeadLetters" >> beam.Flatten()
        | "WriteDeadLetters" >> WriteJsonLines(parameters.path("dead_letters.jsonl"), sort_by=DeadLetter.place)
    )


def _table(
    pipeline: beam.Pipeline, table: InputConfig, parameters: Parameters
) -> tuple[beam.PCollection[Any], list[beam.PCollection[Any]]]:
    """One input, read, cleaned and unique by key; and its dead letters of each step."""
    name, schema = table.name, table.schema
    raw, malformed = pipeline | f"Read {name}" >> _READERS[table.format](parameters.files[name], with_position=True)
    clean, invalid = raw | f"Clean {name}" >> Clean(schema)
    unique, repeated = clean | f"Unique {name}" >> KeepFirst(schema.key)
    return unique, [malformed, invalid, repeated]


class Lookup(beam.PTransform):
    """Join each row of the left table with the row of the right one that it names.

    Input: ``{"left": rows, "right": rows}``, both `Located` and unique by their keys. Output: a `ReadResult`:
    ``good`` has the left rows with the right rows' columns added, ``dead`` the left rows that name no right row.
    """

    def __init__(self, config: EtlConfig) -> None:
        super().__init__()
        self._config = config

    def expand(self, tables: Any) -> "ReadResult":
        on = self._config.on
        keyed = {
            side: rows | f"Key {side}" >> beam.Map(_keyed, on).with_output_types(tuple[str, Any])
            for side, rows in tables.items()
        }
        outputs = (
            keyed
            | "Together" >> beam.CoGroupByKey()
            | "Add" >> beam.ParDo(_AddColumns(self._config.right.name, on)).with_outputs(DEAD, main=GOOD)
        )
        return ReadResult(outputs[GOOD], outputs[DEAD])


class _AddColumns(beam.DoFn):
    def __init__(self, right: str, on: tuple[str, ...]) -> None:
        self._right = right
        self._on = on

    def process(self, group: tuple[str, Any]) -> Iterator[Any]:
        _, sides = group
        found = next(iter(sides["right"]), None)
        for row in sides["left"]:
            if found is None:
                what = ", ".join(f"{name}={row.value[name]}" for name in self._on)
                yield beam.pvalue.TaggedOutput(DEAD, row.refuse("Join", f"{self._right} has no row with {what}"))
            else:
                yield row._replace(value={**found.value, **row.value})


def _keyed(row: Located, on: tuple[str, ...]) -> tuple[str, Located]:
    return key_text(row.value, on), row


def _value(row: Located) -> dict[str, Any]:
    return row.value


def _outcome(parameters: Parameters) -> str:
    """What the run left in the output folder, in words; read from the files themselves."""
    import pyarrow.parquet as pq

    table = parameters.config.table
    with FileSystems.open(parameters.path(f"{table}.parquet")) as file:
        count = pq.ParquetFile(file).metadata.num_rows
    refused: collections.Counter[str] = collections.Counter()
    with FileSystems.open(parameters.path("dead_letters.jsonl")) as file:
        for line in iter(file.readline, b""):
            refused[json.loads(line)["step"]] += 1
    lines = [
        f"{count:,} rows of {table} written to {parameters.path(table + '.parquet')}",
        f"and upserted into table {table} of {parameters.path('etl.sqlite')}",
    ]
    if refused:
        lines.append(f"{sum(refused.values()):,} rows refused, see {parameters.path('dead_letters.jsonl')}:")
        lines += [f"  {number:>7,}  {_STEPS.get(step, step)}" for step, number in sorted(refused.items())]
    else:
        lines.append("no rows refused")
    return "\n".join(lines)


_STEPS = {
    "ReadCsv": "not a row of CSV in UTF-8",
    "ReadJsonLines": "not a JSON object in UTF-8",
    "Clean": "a column is missing, of the wrong type or out of range",
    "KeepFirst": "a key that was there before",
    "Join": "no row to join with",
}
