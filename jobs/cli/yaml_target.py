"""Beam YAML pipelines: what `sage run` and `sage graph` do with one."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence

from sage.errors import MissingExtra

__all__ = ["run_yaml"]


def run_yaml(path: str, argv: Sequence[str]) -> None:
    try:
        from apache_beam.yaml import main as beam_yaml
    except ImportError as error:
        raise MissingExtra("running a Beam YAML pipeline", "yaml") from error
    with _log_level("", logging.INFO), _log_level("apache_beam", logging.WARNING):
        beam_yaml.run([f"--yaml_pipeline_file={path}", *argv])


@contextlib.contextmanager
def _log_level(name: str, level: int) -> Iterator[None]:
    """YAML's LogForTesting writes to the root logger at INFO, which `python -m apache_beam.yaml.main` shows too."""
    logger = logging.getLogger(name)
    saved = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(saved)
