"""The command line: run the benchmarks asked for, print the table, write the JSON."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import platform
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tests.benchmarks.measure import Failed, Row, Settings

__all__ = ["BENCHMARKS", "main"]

BENCHMARKS = ("start", "pipeline", "create", "arrow", "workers", "wordcount", "nexmark", "memory", "state_size")
MODULES = {"nexmark": "nexmark.bench"}


def environment() -> dict[str, Any]:
    """What the figures were measured on."""
    found: dict[str, Any] = {"python": platform.python_version(), "machine": platform.platform()}
    for package in ("apache-beam", "bytewax", "pyarrow"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def table(rows: list[Row]) -> str:
    """The rows in columns: the asked figure beside the measured one."""
    lines = [("benchmark", "what", "measured", "asked", "", "behind it")]
    for row in rows:
        bar = "" if row.asked is None else f"{'>=' if row.at_least else '<='} {row.asked:g} {row.unit}"
        value = "-" if row.value is None else f"{row.value:.2f} {row.unit}"
        lines.append((row.benchmark, row.what, value, bar, row.verdict, row.note))
    widths = [max(len(line[column]) for line in lines) for column in range(5)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(line[:5], widths, strict=True)), line[5]])
        for line in lines
    )


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller sizes and fewer rounds, about 3 minutes")
    parser.add_argument("--only", action="append", choices=BENCHMARKS, help="run this one (may be repeated)")
    parser.add_argument("--json", metavar="FILE", help="write the rows here too; - prints them instead of the table")
    parser.add_argument("--check", action="store_true", help="exit 1 when a bar is missed or a run failed")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run; returns the exit code."""
    asked = parse(arguments)
    settings = Settings(quick=asked.quick, say=lambda line: print(line, file=sys.stderr, flush=True))
    rows: list[Row] = []
    started = time.monotonic()
    for name in [name for name in BENCHMARKS if not asked.only or name in asked.only]:
        module = importlib.import_module(f"tests.benchmarks.{MODULES.get(name, name)}")
        try:
            rows += module.bench(settings)
        except Failed as error:
            rows.append(Row(name, "the whole benchmark", None, 0.0, note=str(error)))
    found = {
        "environment": environment(),
        "quick": asked.quick,
        "seconds": round(time.monotonic() - started, 1),
        "rows": [{**dataclasses.asdict(row), "verdict": row.verdict} for row in rows],
    }
    if asked.json and asked.json != "-":
        Path(asked.json).write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2) if asked.json == "-" else table(rows))
    if asked.check and any(row.verdict in ("MISSED", "FAILED") for row in rows):
        return 1
    return 0
