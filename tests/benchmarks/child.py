"""One turn: a fresh process that times one way of one benchmark and prints the times.

A way is a function of a size in the module, named ``run_<way>``; it makes the run, checks its answer and may
return a dict of further figures; ``seconds`` in it overrules the clock here, for ways that must leave a check out.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import logging
import os
import sys
import time
from typing import Any


def cpu_seconds() -> float:
    """CPU seconds of this process and of the children it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def take_turn(order: dict[str, Any]) -> dict[str, Any]:
    """Warm up, then time the way at each size."""
    module = importlib.import_module(f"tests.benchmarks.{order['module']}")
    way = getattr(module, f"run_{order['way']}")
    arguments, sizes = order["arguments"], order["sizes"]
    prepare = getattr(module, "prepare", None)
    if prepare is not None:
        prepare(sizes, **arguments)
    warm_up = getattr(module, "WARM_UP", 0)
    if warm_up:
        way(warm_up, **arguments)
    walls, cpus, extra = [], [], {}
    for size in sizes:
        gc.collect()
        cpu, wall = cpu_seconds(), time.perf_counter()
        extra = way(size, **arguments) or {}
        wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
        walls.append(extra.pop("seconds", wall))
        cpus.append(cpu)
    return {"sizes": sizes, "walls": walls, "cpus": cpus, "extra": extra}


def main() -> None:
    logging.disable(logging.WARNING)
    # What user code or a runner prints must not get between us and our one line of JSON.
    with contextlib.redirect_stdout(sys.stderr):
        result = take_turn(json.loads(sys.argv[1]))
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
