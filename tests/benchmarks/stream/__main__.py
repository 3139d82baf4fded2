"""``python -m tests.benchmarks.stream``: see README.md in the folder above."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import os
import sys
import time
from pathlib import Path

from tests.benchmarks.cli import environment, table
from tests.benchmarks.measure import Failed, Row, Settings

BENCHMARKS = ("nexmark", "kafka", "latency", "quix")


def main(arguments: list[str] | None = None) -> int:
    """Run; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.stream", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round, smaller sizes")
    parser.add_argument("--only", action="append", choices=BENCHMARKS, help="run this one (may be repeated)")
    parser.add_argument("--json", metavar="FILE", help="write the rows here, too")
    parser.add_argument("--check", action="store_true", help="exit 1 when a bar is missed or a run failed")
    asked = parser.parse_args(arguments)
    settings = Settings(quick=asked.quick, say=lambda line: print(line, file=sys.stderr, flush=True))
    rows: list[Row] = []
    started = time.monotonic()
    for name in [name for name in BENCHMARKS if not asked.only or name in asked.only]:
        module = importlib.import_module(f"tests.benchmarks.stream.{name}")
        try:
            rows += module.bench(settings)
        except Failed as error:
            rows.append(Row(name, "the whole benchmark", None, 0.0, note=str(error)))
    print(table(rows))
    print(f"\n{time.monotonic() - started:.0f} s; load of the machine at the end {os.getloadavg()[0]:.1f}")
    if asked.json:
        document = {**environment(), "rows": [{**dataclasses.asdict(row), "verdict": row.verdict} for row in rows]}
        Path(asked.json).write_text(json.dumps(document, indent=1) + "\n")
    return int(asked.check and any(row.verdict in ("MISSED", "FAILED") for row in rows))


if __name__ == "__main__":
    sys.exit(main())
