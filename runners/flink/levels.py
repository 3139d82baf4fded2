"""Which stages one Flink operator has: a job is a line of operators, and every exchange is between two of them."""

from __future__ import annotations

from sage.runners.engine.core.spec import Plan
from sage.runners.engine.runtime.exchange import Route, routes_of


def levels_of(plan: Plan) -> tuple[int, ...]:
    """The operator (from 0 on) that each stage runs in, by the stage's index.

    A stage that reads over an exchange is in a later operator than what it reads; one that reads only what is made at
    its own worker is in the same one, if all it reads is there.
    """
    levels = [0] * len(plan.stages)
    routes = routes_of(plan)
    for stage in plan.stages:
        for collection in plan.leaving(stage):
            for route in routes[collection]:
                # Stages are in topological order: this one's level is known, its readers' are still to come.
                least = levels[stage.index] + (route.mode != "local")
                levels[route.stage] = max(levels[route.stage], least)
    return tuple(levels)


def depth(plan: Plan) -> int:
    """How many operators a job has (count)."""
    return max(levels_of(plan), default=0) + 1


def inputs_of(plan: Plan, levels: tuple[int, ...], level: int) -> list[tuple[int, Route]]:
    """What an operator reads from the operators before it: the stage that makes it, and the way here."""
    routes = routes_of(plan)
    return [
        (stage.index, route)
        for stage in plan.stages
        for collection in plan.leaving(stage)
        for route in routes[collection]
        if levels[stage.index] < level == levels[route.stage]
    ]
