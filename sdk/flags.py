"""The flags that SAGE adds to Beam's options, each with its unit. Imports no Beam: a command line can ask at once."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from functools import partial
from typing import Any

from sage.errors import ConfigError

__all__ = ["CHECKED", "add_flags", "checked", "parse_bytes", "parse_duration_ms", "parse_restart"]

_BYTES = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", re.IGNORECASE)
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h)\s*", re.IGNORECASE)
_DURATION_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000}


def parse_bytes(text: str | int) -> int:
    """Bytes from a size such as ``512MB``, ``2GiB`` or ``1048576``.

    Units are powers of 1024 with or without the ``i``, as people mean them when they talk of memory.

    Raises:
        ConfigError: the text is not a size.
    """
    if isinstance(text, int):
        return text
    match = _BYTES.fullmatch(text)
    if not match:
        raise ConfigError(f"{text!r} is not a size in bytes: write it like 512MB, 2GB or 1048576")
    number, unit, _ = match.groups()
    return int(float(number) * 1024 ** " kmgt".index(unit.lower() or " "))


def parse_duration_ms(text: str | int) -> int:
    """Milliseconds from a duration such as ``50ms``, ``10s``, ``5m`` or ``1h``; a bare number is milliseconds.

    Raises:
        ConfigError: the text is not a duration.
    """
    if isinstance(text, int):
        return text
    if text.strip().isdigit():
        return int(text)
    match = _DURATION.fullmatch(text)
    if not match:
        raise ConfigError(f"{text!r} is not a duration: write it like 50ms, 10s, 5m or 1h")
    number, unit = match.groups()
    return round(float(number) * _DURATION_MS[unit.lower()])


def _int(value: str | int) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        raise ConfigError(f"{value!r} is not a valid int") from None


def _workers(value: str | int) -> int:
    count = _int(value)
    if count < 1:
        raise ConfigError(f"{count} workers cannot run a job: give 1 or more")
    return count


def _memory(value: str | int) -> int:
    size = parse_bytes(value)
    if size < 1:
        raise ConfigError("a job needs some memory: give more than 0, or leave the option out for no limit")
    return size


def _one_of(names: tuple[str, ...], value: str) -> str:
    if value not in names:
        raise ConfigError(f"{value!r} is not one of {', '.join(map(repr, names))}")
    return value


def _positive_duration(value: str | int) -> int:
    duration = parse_duration_ms(value)
    if duration < 1:
        raise ConfigError(f"{value!r} is not a duration above zero: write it like 100ms or 10s")
    return duration


def _count(value: str | int) -> int:
    count = _int(value)
    if count < 1:
        raise ConfigError("give 1 or more")
    return count


def _drift(value: str | int) -> int:
    return 0 if isinstance(value, str) and value.strip().lower() == "none" else parse_duration_ms(value)


_RESTARTS: dict[str, tuple[Callable[[str], int], ...]] = {
    "none": (),
    "fixed-delay": (_count, parse_duration_ms),
    "exponential": (parse_duration_ms, parse_duration_ms),
    "failure-rate": (_count, parse_duration_ms, parse_duration_ms),
}


def parse_restart(text: str) -> tuple[str, list[int]]:
    """What a job does when it fails: the kind of policy, and its numbers (counts and milliseconds).

    ``none``; ``fixed-delay:3:1s`` begins again three times, after a second; ``exponential:1s:60s`` without end, after
    delays that double up to a minute, and begin anew after an hour without failure; ``failure-rate:5:10m:1s`` after a
    second, unless there were more than five failures within ten minutes.

    Raises:
        ConfigError: the text is none of these.
    """
    kind, *parts = text.strip().split(":")
    numbers = _RESTARTS.get(kind)
    try:
        if numbers is not None and len(numbers) == len(parts):
            return kind, [number(part) for number, part in zip(numbers, parts, strict=True)]
    except ConfigError as error:
        raise ConfigError(f"{text!r}: {error}") from None
    raise ConfigError(
        f"{text!r} is not a way to begin again: write it like none, fixed-delay:3:1s, exponential:1s:60s or "
        "failure-rate:5:10m:1s"
    )


def _restart(value: str) -> str:
    parse_restart(value)
    return value


STATE_BACKENDS = ("memory", "rocksdb")
PATHS = ("auto", "compiled", "bound", "general")

_CHECKS: dict[str, Callable[[Any], Any]] = {
    "workers": _workers,
    "memory_limit": _memory,
    "max_bundle_time": parse_duration_ms,
    "max_watermark_drift": _drift,
    "execution_path": partial(_one_of, PATHS),
    "checkpoint_interval": _positive_duration,
    "retained_checkpoints": _count,
    "state_backend": partial(_one_of, STATE_BACKENDS),
    "restart": _restart,
}


CHECKED = tuple(_CHECKS)
"""The flags whose values are looked at."""


def checked(name: str, value: Any) -> Any:
    """What a flag's value means, as text or as what the text stands for.

    Raises:
        ConfigError: the value is wrong; the message names the flag and what is accepted.
    """
    try:
        return _CHECKS[name](value)
    except ConfigError as error:
        raise ConfigError(f"--{name}: {error}") from None


class _Checked(argparse.Action):
    """Sets an option to what its check makes of it; a bad value is one ConfigError, where argparse would print the
    usage of every option there is and end the process."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        setattr(namespace, self.dest, checked(self.dest, values))


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declares every flag to a parser."""
    parser.add_argument(
        "--workers",
        action=_Checked,
        default=1,
        metavar="N",
        help="How many worker processes run the job (count, as 4). 1 runs it in this process. Default: 1.",
    )
    parser.add_argument(
        "--memory_limit",
        action=_Checked,
        default=None,
        metavar="SIZE",
        help="Memory that groupings and shuffles may hold, all workers together (bytes, as 512MB or 2GB). "
        "What is larger spills to disk. Default: no limit.",
    )
    parser.add_argument(
        "--spill_dir",
        default=None,
        metavar="DIR",
        help="Folder for what spills to disk, as /var/tmp. Default: the system's temporary folder.",
    )
    parser.add_argument(
        "--max_bundle_time",
        action=_Checked,
        default=50,
        metavar="TIME",
        help="How long an element of a streaming job may wait for others, or for a slow step that has more to do, "
        "before it goes on (ms, as 50ms or 1s). Default: 50ms.",
    )
    parser.add_argument(
        "--max_watermark_drift",
        action=_Checked,
        default=5_000,
        metavar="TIME",
        help="How far ahead of the slowest, in event time, a part of a stream (a partition) is read, where their "
        "elements meet in one grouping or join (ms, as 500ms or 1m); 'none' for no limit. What is ahead waits in its "
        "topic instead of in the join's state. Default: 5s.",
    )
    parser.add_argument(
        "--execution_path",
        action=_Checked,
        default="auto",
        metavar=f"[{'|'.join(PATHS)}]",
        help="Which way steps run (name). 'auto' takes the fastest that means the same; the others are for "
        "tests and for ruling a way out when something looks wrong, as general. Default: auto.",
    )
    _add_checkpoint_flags(parser)


def _add_checkpoint_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint_dir",
        default=None,
        metavar="PATH",
        help="Where checkpoints go: a folder, or any fsspec path, as s3://bucket/jobs. A job that finds a checkpoint "
        "of its own there goes on from it. Default: no checkpoints; a job that is killed begins anew.",
    )
    parser.add_argument(
        "--checkpoint_interval",
        action=_Checked,
        default=10_000,
        metavar="TIME",
        help="How often a checkpoint is taken (ms, as 500ms or 10s), if there is a --checkpoint_dir. Default: 10s.",
    )
    parser.add_argument(
        "--retained_checkpoints",
        action=_Checked,
        default=2,
        metavar="N",
        help="How many completed checkpoints are kept (count, as 5); older ones are removed. Default: 2.",
    )
    parser.add_argument(
        "--restore_from",
        default=None,
        metavar="PATH",
        help="A savepoint or checkpoint to begin from, as jobs/orders/savepoints/one. "
        "Default: the latest checkpoint in --checkpoint_dir, if there is one.",
    )
    parser.add_argument(
        "--allow_dropped_state",
        action="store_true",
        default=False,
        help="Begin also where the checkpoint or savepoint holds state of a step that the pipeline has no more, or the "
        "position in a topic that it reads no more; that is lost. Default: such a job does not begin.",
    )
    parser.add_argument(
        "--restart",
        action=_Checked,
        default=None,
        metavar="POLICY",
        help="What a job does that fails or loses a worker: 'none', or begin again from the last checkpoint, as "
        "'fixed-delay:3:1s' (at most 3 times, after 1 s), 'exponential:1s:60s' (after delays that double up to "
        "60 s) or 'failure-rate:5:10m:1s' (after 1 s, unless it failed more than 5 times in 10 minutes). "
        "Default: 'fixed-delay:3:1s' if there is a --checkpoint_dir, else 'none'.",
    )
    parser.add_argument(
        "--state_backend",
        action=_Checked,
        default="memory",
        metavar=f"[{'|'.join(STATE_BACKENDS)}]",
        help="Where keyed state lives while the job runs (name). 'rocksdb' is for state that outgrows memory. "
        "Default: memory.",
    )
    parser.add_argument(
        "--state_dir",
        default=None,
        metavar="DIR",
        help="Folder for the files of the rocksdb backend, as /var/tmp. Default: the system's temporary folder.",
    )
