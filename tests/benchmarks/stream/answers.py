"""What a query has to give, whichever way it ran: Q0-Q8 against the plain-Python references."""

from __future__ import annotations

import collections
from collections.abc import Iterable
from typing import Any

from tests.benchmarks.measure import Failed
from tests.benchmarks.nexmark import references
from tests.benchmarks.stream.events import CONFIG, made

__all__ = ["NUMBERS", "check"]

NUMBERS = tuple(range(9))


def check(number: int, count: int, outputs: Iterable[Any]) -> None:
    """Holds the outputs of a query over ``count`` events to its reference: each as often as it came, in any order.

    Q6 gives a mean each time an auction closes; the last one of a seller, which has the highest number, counts.

    Raises:
        Failed: they differ.
    """
    right = getattr(references, f"query{number}")(made(count), CONFIG)
    found = list(outputs)
    if number == 6:
        found, right = _latest(found), _latest(right)
    have, want = (collections.Counter(map(tuple, side)) for side in (found, right))
    if have != want:
        missing, extra = list((want - have).items()), list((have - want).items())
        raise Failed(
            f"Q{number} over {count} events: {sum(have.values())} results, {sum(want.values())} expected; "
            f"{len(missing)} missing such as {missing[:2]}, {len(extra)} not expected such as {extra[:2]}"
        )


def _latest(outputs: Iterable[tuple[Any, int, Any]]) -> list[Any]:
    latest: dict[Any, tuple[int, Any]] = {}
    for key, pane, value in outputs:
        latest[key] = max(latest.get(key, (-1, None)), (pane, value), key=lambda found: found[0])
    return [(key, value) for key, (_, value) in latest.items()]
