"""Beam pipelines on a runner by name, and a source and a sink that cost next to nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

__all__ = ["Collect", "Numbers", "collected", "options", "runner"]

_COLLECTED: list[Any] = []


def runner(name: str) -> Any:
    """A fresh runner: ``sage`` is ours, ``fnapi`` is Beam's portable runner in this process."""
    if name == "sage":
        from sage.runners.local import LocalRunner

        return LocalRunner()
    if name == "fnapi":
        from apache_beam.runners.portability.fn_api_runner import FnApiRunner

        return FnApiRunner()
    raise ValueError(f"no runner is called {name!r}: use sage or fnapi")


def options(*flags: str) -> PipelineOptions:
    """Pipeline options from flags alone, so that the benchmark's own command line stays out of them."""
    return PipelineOptions(list(flags))


class Numbers(beam.DoFn):
    """The generating source: n becomes 0 .. n-1."""

    def process(self, element: int) -> Iterator[int]:
        yield from range(element)


class Collect(beam.DoFn):
    """The sink: keeps what arrives in a list of this process, for the check after the clock has stopped."""

    def process(self, element: Any) -> Iterable[Any]:
        _COLLECTED.append(element)
        return ()


def collected() -> list[Any]:
    """What the last pipeline of this process collected; the list is emptied."""
    found = list(_COLLECTED)
    _COLLECTED.clear()
    return found
