"""Which ways the steps of many pipelines would run: Beam's own examples, as their tests build them, and the ready jobs.

Nothing runs. Prints how many steps of each pipeline go which way, and what keeps steps from being compiled, by how
often it does: the commonest reason is the next one worth compiling away.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import logging
import os
import pkgutil
import re
import sys
import tempfile
import unittest
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import apache_beam.examples

from sage.jobs.cli.explaining import explain_target
from sage.jobs.etl.sample import write_sample
from sage.runners.driver.explanation import ExplainedStep
from sage.runners.local import LocalRunner

JOBS = ("sage.jobs.etl", "sage.jobs.orders", "sage.jobs.stdlib_report")
WAYS = ("compiled", "bound", "general", "engine")


class _Held(Exception):
    """Ends a test in place of the run of its pipeline."""


def of_examples(pattern: str) -> Iterator[tuple[str, list[ExplainedStep]]]:
    """The pipelines of the tests of Beam's examples whose names match; assertions are no steps of theirs."""
    found: list[list[ExplainedStep]] = []

    def hold(pipeline: Any, *args: Any, **kwargs: Any) -> None:
        with contextlib.suppress(Exception):  # a pipeline that cannot be planned has no steps to count
            steps = LocalRunner().explain_pipeline(pipeline, pipeline.options)
            found.append([step for step in steps if "assert_that" not in step.name])
        raise _Held

    run, beam.Pipeline.run = beam.Pipeline.run, hold
    try:
        for module in pkgutil.walk_packages(apache_beam.examples.__path__, "apache_beam.examples."):
            if not module.name.endswith("_test") or not re.search(pattern, module.name):
                continue
            found.clear()
            with contextlib.suppress(Exception, unittest.SkipTest):
                suite = unittest.defaultTestLoader.loadTestsFromModule(importlib.import_module(module.name))
                unittest.TextTestRunner(io.StringIO()).run(suite)
            for number, steps in enumerate(found, 1):
                yield f"{module.name.removeprefix('apache_beam.examples.').removesuffix('_test')} {number}", steps
    finally:
        beam.Pipeline.run = run


def of_jobs() -> Iterator[tuple[str, list[ExplainedStep]]]:
    """The pipelines of the ready jobs, with their defaults."""
    with tempfile.TemporaryDirectory() as folder:
        write_sample(folder, rows=10)
        inputs = (f"orders={folder}/orders-*.csv", f"customers={folder}/customers.jsonl")
        for name in JOBS:
            options = [part for given in inputs for part in ("--input", given)] if name.endswith(".etl") else []
            yield name, explain_target(name, options, "local", {})


def general(reason: str) -> str:
    """A reason without the names of the one step that has it."""
    reason = re.sub(r"^parameter '\w+' is", "a parameter is", reason)
    return re.sub(r"^\w+(\.\w+)? (is|takes|yields)", r"a DoFn \2", reason)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", metavar="REGEX", help="which test modules of Beam's examples")
    parser.add_argument("--steps", action="store_true", help="print each step that runs the general way")
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    ways: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    lines = []
    with open(os.devnull, "w") as quiet, contextlib.redirect_stdout(quiet):
        sys.argv = sys.argv[:1]
        for name, steps in (*of_examples(given.only), *of_jobs()):
            here = Counter(step.path for step in steps)
            ways += here
            reasons += Counter(general(step.reason) for step in steps if step.reason)
            lines.append(f"{name:70} " + " ".join(f"{here[way]:9}" for way in WAYS))
            if given.steps:
                lines += [f"    {step.name}: {step.reason}" for step in steps if step.reason]
    print(f"{'pipeline':70} " + " ".join(f"{way:>9}" for way in WAYS))
    print("\n".join([*lines, f"{'all':70} " + " ".join(f"{ways[way]:9}" for way in WAYS)]))
    print("\nwhat keeps steps from being compiled:")
    for reason, count in reasons.most_common():
        print(f"{count:6}  {reason}")


if __name__ == "__main__":
    main()
