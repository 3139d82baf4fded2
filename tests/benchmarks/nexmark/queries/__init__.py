"""The thirteen queries: pipeline, reference, and what of a result has to be equal."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import apache_beam as beam

from tests.benchmarks.nexmark import references
from tests.benchmarks.nexmark.model import Config, Event
from tests.benchmarks.nexmark.queries import joins, logs, simple, windows, winning

__all__ = ["QUERIES", "Query"]

Load = Callable[[beam.PCollection[Event], Config], beam.PCollection[Any]]


def everything(outputs: Iterable[Any]) -> Any:
    """Each output as often as it came, in any order."""
    return collections.Counter(tuple(output) for output in outputs)


def latest_panes(outputs: Iterable[tuple[Any, int, Any]]) -> Any:
    """By key, what its highest pane said: a trigger may fire any number of times before."""
    latest: dict[Any, tuple[int, Any]] = {}
    for key, pane, value in outputs:
        latest[key] = max(latest.get(key, (-1, None)), (pane, value), key=lambda found: found[0])
    return {key: value for key, (_, value) in latest.items()}


def sums(outputs: Iterable[tuple[Any, ...]]) -> Any:
    """By all but the last field, the sum of the last: how often a discarding trigger fired does not matter."""
    totals: collections.Counter[tuple[Any, ...]] = collections.Counter()
    for *key, value in outputs:
        totals[tuple(key)] += value
    return totals


@dataclass(frozen=True)
class Query:
    """One query.

    Attributes:
        load: builds its steps on a PCollection of events.
        reference: the same in plain Python.
        settle: turns outputs into what has to be equal, whatever the order and the panes.
        writes: whether it writes below ``config.log_dir``.
    """

    load: Load
    reference: Callable[[list[Event], Config], list[Any]]
    settle: Callable[[Iterable[Any]], Any] = everything
    writes: bool = False

    def differs(self, outputs: Iterable[Any], events: list[Event], config: Config) -> str:
        """What is wrong with the outputs; empty when nothing is."""
        found, right = self.settle(outputs), self.settle(self.reference(events, config))
        if self.writes:
            on_disk = logs.read_back(config.log_dir)
            if on_disk != collections.Counter(map(logs.to_line, events)):
                return f"the log files hold {sum(on_disk.values())} lines that are not those of {len(events)} events"
        if found == right:
            return ""
        missing = [key for key in right if found.get(key) != right[key]]
        extra = [key for key in found if key not in right]
        return (
            f"{len(found)} results, {len(right)} expected; {len(missing)} missing or wrong such as {missing[:2]}, "
            f"{len(extra)} not expected such as {extra[:2]}"
        )


QUERIES = {
    0: Query(simple.query0, references.query0),
    1: Query(simple.query1, references.query1),
    2: Query(simple.query2, references.query2),
    3: Query(joins.query3, references.query3),
    4: Query(winning.query4, references.query4),
    5: Query(windows.query5, references.query5),
    6: Query(winning.query6, references.query6, latest_panes),
    7: Query(windows.query7, references.query7),
    8: Query(joins.query8, references.query8),
    9: Query(winning.query9, references.query9),
    10: Query(logs.query10, references.query10, sums, writes=True),
    11: Query(windows.query11, references.query11, sums),
    12: Query(windows.query12, references.query12, sums),
}
