"""Beam YAML pipelines: what `sage run` and `sage graph` do with one."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sage.errors import ConfigError, MissingExtra, Refusal, SageError, UnsupportedFeature, message_of

__all__ = ["run_yaml"]

_CHATTER = ("Missing pipeline option (runner)", "Could not load ML transform module")
_ON_SQL = ("Join",)  # Beam makes a query of it
_JAVA_LANGUAGES = ("java", "sql", "calcite")
_JAVA_PROVIDERS = ("javaJar", "mavenJar", "beamJar")
_NEEDS_JAVA = "needs a Java expansion service and Java workers, which no runner of SAGE starts"


def run_yaml(path: str, argv: Sequence[str]) -> None:
    """Builds the pipeline in a file, and runs it.

    Args:
        path: the file.
        argv: further options, as `python -m apache_beam.yaml.main` takes them.

    Raises:
        MissingExtra: Beam's YAML support is not installed.
        ConfigError: the file is not YAML, or not a pipeline; the message names the file and the line.
        UnsupportedFeature: steps need Java; nothing of the pipeline has run.
    """
    try:
        from apache_beam.yaml import main as beam_yaml
        from apache_beam.yaml import yaml_transform
    except ImportError as error:
        raise MissingExtra("running a Beam YAML pipeline", "yaml") from error

    yaml: Any = beam_yaml.yaml  # type: ignore[attr-defined, unused-ignore]  # the one that it loads the file with
    expand, begun = yaml_transform.expand_pipeline, []
    above = _lines_above(path, getattr(yaml_transform, "strip_leading_comments", str))

    def expand_checked(pipeline: Any, spec: Any, *args: Any, **kwargs: Any) -> Any:
        begun.append(spec)
        _refuse_java(spec, above)
        try:
            return expand(pipeline, spec, *args, **kwargs)
        except SageError:
            raise
        except Exception as error:
            raise ConfigError(f"{path}: {message_of(error)}") from error

    try:
        with (
            _log_level("", logging.INFO),
            _log_level("apache_beam", logging.WARNING),
            _without_chatter(),
            _replaced(yaml_transform, "expand_pipeline", expand_checked),
            _replaced(beam_yaml, "print", lambda *_: None),  # "Building pipeline...", whether or not it is to run
        ):
            beam_yaml.run([f"--yaml_pipeline_file={path}", *argv])
    except (AttributeError, TypeError) as error:
        if begun:
            raise
        raise ConfigError(f"{path}: a pipeline is a mapping that has the key 'pipeline'") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{above + mark.line + 1}:{mark.column + 1}" if mark is not None else path
        raise ConfigError(f"{where}: not YAML: {error.problem or error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {error}") from error


def _lines_above(path: str, strip: Callable[[str], str]) -> int:
    """Returns how many lines (count) Beam takes off the head of a file before it counts: blanks and comments."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return 0  # Beam's own reading tells what is wrong
    return text.count("\n") - strip(text).count("\n")


def _refuse_java(spec: Any, above: int) -> None:
    """Refuses a pipeline with steps that Beam runs in Java.

    Args:
        spec: the pipeline, as Beam reads it.
        above: how many lines of the file are not counted in it.

    Raises:
        UnsupportedFeature: the message lists all of them.
    """
    needs_java = _java_types(spec)
    refusals = [
        Refusal(str(step.get("name") or step["type"]), f"line {step.get('__line__', 0) + above}: it {_NEEDS_JAVA}")
        for step in _steps(spec)
        if needs_java(step)
    ]
    if refusals:
        raise UnsupportedFeature("SAGE", refusals)


def _java_types(spec: Any) -> Callable[[Mapping[str, Any]], bool]:
    """A function that tells whether a step needs Java: by its type, or by the language of its expressions."""
    from apache_beam.yaml import yaml_provider

    in_java = yaml_provider.ExternalJavaProvider, yaml_provider.SqlBackedProvider
    known = yaml_provider.standard_providers()
    types = {kind for kind, found in known.items() if found and all(isinstance(_real(each), in_java) for each in found)}
    for provider in spec.get("providers", ()) if isinstance(spec, Mapping) else ():
        if isinstance(provider, Mapping) and provider.get("type") in _JAVA_PROVIDERS:
            types |= {name for name in provider.get("transforms", {}) if not name.startswith("__")}
    types |= set(_ON_SQL)

    def needs_java(step: Mapping[str, Any]) -> bool:
        config = step.get("config")
        language = config.get("language") if isinstance(config, Mapping) else None
        return step.get("type") in types or language in _JAVA_LANGUAGES

    return needs_java


def _real(provider: Any) -> Any:
    """The provider behind those that only give other names to its transforms."""
    while (inner := getattr(provider, "_underlying_provider", None)) is not None:
        provider = inner
    return provider


def _steps(spec: Any) -> Iterator[Mapping[str, Any]]:
    """Every mapping of a pipeline that names the type of a step, those inside of composites too."""
    if isinstance(spec, Mapping):
        if isinstance(spec.get("type"), str):
            yield spec
        for key, part in spec.items():
            if key in ("pipeline", "transforms", "source", "sink", "extra_transforms"):
                yield from _steps(part)
    elif isinstance(spec, list):
        for part in spec:
            yield from _steps(part)


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = vars(owner).copy()
    setattr(owner, name, value)
    try:
        yield
    finally:
        if name in before:
            setattr(owner, name, before[name])
        else:
            delattr(owner, name)


@contextlib.contextmanager
def _without_chatter() -> Iterator[None]:
    """Leaves out that Beam takes the default runner, and which of its transforms miss a library, used or not."""

    def wanted(record: logging.LogRecord) -> bool:
        return not (isinstance(record.msg, str) and record.msg.startswith(_CHATTER))

    logging.root.addFilter(wanted)
    try:
        yield
    finally:
        logging.root.removeFilter(wanted)


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
