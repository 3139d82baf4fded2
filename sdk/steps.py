"""Applying one step: its label, its resources and its parallelism."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypedDict

from apache_beam.transforms import resources as beam_resources

from sage.checks import check_keys, suggestion
from sage.errors import ConfigError
from sage.options import parse_bytes

if TYPE_CHECKING:
    import apache_beam as beam

__all__ = ["PARALLELISM", "RESOURCES", "StepOptions", "Steps"]

PARALLELISM = "sage:parallelism:v1"
"""Annotation of a transform in the pipeline proto: how many workers may run the step, as decimal text."""

RESOURCES = "sage:resources:v1"
"""Annotation of a transform: JSON object with ``num_cpus`` and ``num_gpus`` (numbers) and ``memory`` (bytes)."""

_RESOURCE_KEYS = ("num_cpus", "memory", "num_gpus")


class StepOptions(TypedDict, total=False):
    """Keyword arguments that every operator takes.

    Attributes:
        name: the step's label; by default made of operator and function, as ``map(parse)``. State belongs to the
            step of this name, so a stateful step of a job that is to be updated should have one.
        parallelism: how many workers run the step at most (count); a hint to the runner.
        resources: what one worker needs for the step: ``num_cpus`` and ``num_gpus`` (numbers, fractions allowed)
            and ``memory`` (bytes or a size such as ``"4GB"``).
    """

    name: str
    parallelism: int
    resources: Mapping[str, Any]


class Steps:
    """Applies transforms to one pipeline under unique labels.

    Resources become Beam's own resource hints where Beam has one: ``memory`` is ``min_ram`` and ``num_cpus``,
    rounded up, is ``cpu_count`` (from Beam 2.66 on). Beam's ``accelerator`` hint wants a device type that a count
    does not give, and parallelism is no resource; both travel, with the exact numbers, as annotations of
    the transform (`RESOURCES`, `PARALLELISM`), which survive in the proto and which other runners ignore.
    """

    def __init__(self, pipeline: beam.Pipeline) -> None:
        self.pipeline = pipeline

    def label(self, default: str, options: Mapping[str, Any]) -> str:
        """The label that a step will have: the user's name, else the default made unique with a number.

        Raises:
            ConfigError: an option is unknown, or the name is taken.
        """
        for key in options:
            if key not in StepOptions.__annotations__:
                near = suggestion(key, tuple(StepOptions.__annotations__)) or "."
                raise ConfigError(
                    f"{default}: unknown argument {key!r}{near} Accepted: {', '.join(StepOptions.__annotations__)}"
                )
        taken = self.pipeline.applied_labels
        name = options.get("name")
        if name is not None:
            if not isinstance(name, str) or not name:
                raise ConfigError(f"{default}: name must be a text that is not empty, not {name!r}")
            if name in taken:
                raise ConfigError(f"{default}: a step named {name!r} exists already; names must be unique")
            return name
        label, number = default, 1
        while label in taken:
            number += 1
            label = f"{default}_{number}"
        return label

    def apply(self, pvalue: Any, transform: beam.PTransform, label: str, options: Mapping[str, Any]) -> Any:
        """Apply ``transform`` to ``pvalue`` and give back what it gives.

        Args:
            pvalue: the pipeline, a PCollection, or a tuple of PCollections.
            transform: any Beam transform.
            label: what `label` gave.
            options: see `StepOptions`.

        Raises:
            ConfigError: a bad value of an option.
        """
        annotations = {
            **_parallelism(label, options.get("parallelism")),
            **_resources(label, transform, options.get("resources")),
        }
        if annotations:
            # A partial of dict, not a lambda: a composite transform is pickled with its attributes.
            transform.annotations = functools.partial(dict, transform.annotations(), **annotations)
        return pvalue | label >> transform


def _parallelism(label: str, parallelism: object) -> dict[str, str]:
    if parallelism is None:
        return {}
    if isinstance(parallelism, bool) or not isinstance(parallelism, int) or parallelism < 1:
        raise ConfigError(f"{label}: parallelism must be a whole number of 1 or more, not {parallelism!r}")
    return {PARALLELISM: str(parallelism)}


def _resources(label: str, transform: beam.PTransform, resources: Mapping[str, Any] | None) -> dict[str, str]:
    """Set Beam's hints on the transform; returns the annotation that carries the exact numbers."""
    if resources is None:
        return {}
    check_keys(label, "resources", resources, _RESOURCE_KEYS)
    exact: dict[str, float] = {}
    for key, value in resources.items():
        if key == "memory":
            exact[key] = _memory(label, value)
        elif isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
            raise ConfigError(f"{label}: resources[{key!r}] must be a number of 0 or more, not {value!r}")
        else:
            exact[key] = value
    hints: dict[str, Any] = {}
    if "memory" in exact:
        hints["min_ram"] = int(exact["memory"])
    if exact.get("num_cpus") and beam_resources.ResourceHint.is_registered("cpu_count"):
        hints["cpu_count"] = str(math.ceil(exact["num_cpus"]))
    if hints:
        transform.with_resource_hints(**hints)
    return {RESOURCES: json.dumps(exact, sort_keys=True)} if exact else {}


def _memory(label: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ConfigError(f"{label}: resources['memory'] must be bytes or a size such as '4GB', not {value!r}")
    try:
        return parse_bytes(value)
    except ConfigError as error:
        raise ConfigError(f"{label}: resources['memory']: {error}") from None
