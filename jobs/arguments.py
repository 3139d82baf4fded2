"""The command line of the ready-made jobs: their own parameters, Beam's options, and nothing else."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Sequence

from apache_beam.options.pipeline_options import PipelineOptions

# Imported for its declaration: Beam knows the options of every class of options that exists.
from sage import options as _sage_options  # noqa: F401
from sage.errors import ConfigError

__all__ = ["parse_arguments"]


def parse_arguments(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None
) -> tuple[argparse.Namespace, PipelineOptions]:
    """The job's parameters, and the pipeline options in what is left.

    Beam alone would log an option that it does not know, and run without it.

    Args:
        parser: declares the job's parameters.
        argv: the arguments (default: the program's).

    Raises:
        ConfigError: an option is neither the job's, Beam's nor SAGE's.
        SystemExit: a parameter of the job is malformed, or ``--help`` was asked for.
    """
    known, rest = parser.parse_known_args(argv)
    beam_parsers: list[argparse.ArgumentParser] = []
    PipelineOptions([]).get_all_options(add_extra_args_fn=beam_parsers.append)
    beam_parser = beam_parsers[0]
    _, unknown = beam_parser.parse_known_args(rest)
    if unknown:
        flag = unknown[0].partition("=")[0]
        options = [text for each in (parser, beam_parser) for action in each._actions for text in action.option_strings]
        near = difflib.get_close_matches(flag, options, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ConfigError(f"unknown option {flag!r}.{hint} The job's own are listed by --help.")
    return known, PipelineOptions(rest)
