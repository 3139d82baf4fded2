"""Which runner a job gets, and the SageOptions it gets with it, when its own code names neither."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import functools
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import click

from sage.errors import ConfigError, MissingExtra
from sage.flags import add_flags
from sage.importing import importing
from sage.runner_names import RUNNERS

__all__ = ["SageOptionsCommand", "job_defaults", "prepare_workers", "resolve_runner"]

_JOB_NAME = "job_name"
# The module that each runner needs beside the core, and so the extra of the same name as the runner.
_NEEDS = {"ray": "ray", "flink": "pyflink"}


def resolve_runner(name: str) -> str:
    """The dotted (or Beam's own) name of the runner that ``--runner`` asks for.

    Raises:
        ConfigError: no runner has this name.
        MissingExtra: the runner's extra is not installed.
    """
    if name in RUNNERS:
        needed = _NEEDS.get(name)
        if needed is not None and importlib.util.find_spec(needed) is None:
            raise MissingExtra(f"--runner {name}", name)
        return RUNNERS[name]
    from apache_beam.options.pipeline_options import StandardOptions

    if "." in name or name in StandardOptions.KNOWN_RUNNER_NAMES:
        return name
    known = [*RUNNERS, *StandardOptions.KNOWN_RUNNER_NAMES]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ConfigError(
        f"no runner is called {name!r}.{hint} Known: {', '.join(RUNNERS)}, or a class by its dotted name."
    )


def prepare_workers(name: str, given: Mapping[str, object]) -> None:
    """Has worker processes made ready, if the local runner is asked for some, while this process imports Beam."""
    workers = given.get("workers")
    if RUNNERS.get(name, name) == RUNNERS["local"] and isinstance(workers, int) and workers > 1:
        from sage.runners.local.zygote import prepare

        prepare()


@contextlib.contextmanager
def job_defaults(runner: str, given: Mapping[str, object]) -> Iterator[None]:
    """While open, pipelines that name no runner get ``runner``, and options they do not set get the values given.

    A pipeline that is built with neither options nor arguments never looks at ``sys.argv``, so the values cannot
    travel that way: they become the defaults of the options themselves.
    """
    _import_beam(runner)
    from apache_beam.options.pipeline_options import GoogleCloudOptions, StandardOptions

    from sage.options import SageOptions

    default_runner = StandardOptions.DEFAULT_RUNNER
    StandardOptions.DEFAULT_RUNNER = runner
    named = {name: value for name, value in given.items() if name == _JOB_NAME}
    others = {name: value for name, value in given.items() if name != _JOB_NAME}
    try:
        # Beam declares a job's name with what is for Google's cloud; every runner reads it.
        with _defaults(SageOptions, others), _defaults(GoogleCloudOptions, named):
            yield
    finally:
        StandardOptions.DEFAULT_RUNNER = default_runner


def _import_beam(runner: str) -> None:
    """Imports Beam, and our runner where it is what most jobs get."""
    if "apache_beam" in sys.modules:  # the command was called by a program, which has garbage of its own
        return
    with importing():
        import apache_beam  # noqa: F401

        if runner == RUNNERS["local"]:
            import sage.runners.local.runner  # noqa: F401


@contextlib.contextmanager
def _defaults(options: Any, values: Mapping[str, object]) -> Iterator[None]:
    declared = options.__dict__["_add_argparse_args"]

    def with_values(cls: Any, parser: argparse.ArgumentParser) -> None:
        declared.__get__(None, cls)(parser)
        parser.set_defaults(**values)

    options._add_argparse_args = classmethod(with_values)
    try:
        yield
    finally:
        options._add_argparse_args = declared


class SageOptionsCommand(click.Command):
    """A command that takes a job's name and every option of `SageOptions` too, with dashes or underscores.

    The options are read from the one place that declares them, so the command line cannot fall behind, and Beam need
    not be there to tell them.
    """

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        own = super().get_params(ctx)
        return [*own, *_sage_option_params()]


@functools.cache
def _sage_option_params() -> tuple[click.Option, ...]:
    parser = argparse.ArgumentParser(add_help=False)
    add_flags(parser)
    name = click.Option(
        ["--job-name", _JOB_NAME],
        metavar="NAME",
        help="What the job is called, also where its checkpoints are kept. Default: the name of the script.",
    )
    return (name, *(_as_click(action) for action in parser._actions))


def _as_click(action: argparse.Action) -> click.Option:
    flags = [flag.replace("_", "-") for flag in action.option_strings]
    if action.nargs == 0:
        return click.Option([*flags, action.dest], is_flag=True, default=None, help=action.help)
    kind: Any = click.Choice(list(action.choices)) if action.choices else _converter(action)
    metavar = None if action.choices else str(action.metavar or action.dest.upper())
    return click.Option([*flags, action.dest], type=kind, default=None, metavar=metavar, help=action.help)


def _converter(action: argparse.Action) -> Callable[[str], Any]:
    """What argparse would make of the text, complaining in click's way."""
    parser, flag = argparse.ArgumentParser(add_help=False), action.option_strings[0]

    def checked(text: str) -> Any:
        namespace = argparse.Namespace()
        try:
            action(parser, namespace, text, flag)
        except ConfigError as error:
            raise click.BadParameter(str(error).removeprefix(f"{flag}: ")) from error
        return getattr(namespace, action.dest)

    return checked
