"""What `sage run` and `sage graph` are pointed at: a script, a module, a function or a Beam YAML file."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import importlib.util
import inspect
import os
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import click

from sage.errors import ConfigError
from sage.jobs.cli.pipelines import PipelineCount, counting_pipelines
from sage.jobs.cli.yaml_target import run_yaml

__all__ = ["Target"]

_YAML = (".yaml", ".yml")


@dataclass(frozen=True)
class Target:
    """A job that can be launched.

    Attributes:
        path: the file, for a script or a YAML pipeline.
        module: the module, when no file is named.
        function: the function in either, if one is named.
    """

    path: str | None = None
    module: str | None = None
    function: str | None = None

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read ``job.py``, ``job.py:function``, ``module``, ``module:function`` or ``pipeline.yaml``.

        Raises:
            ConfigError: the file is missing, or the text is none of these.
        """
        name, _, function = text.partition(":")
        if name.endswith((".py", *_YAML)) or os.sep in name or os.path.exists(name):
            if function and name.endswith(_YAML):
                raise ConfigError(f"{name} is a YAML pipeline: it has no function {function!r}")
            return cls(path=_existing_file(name), function=function or None)
        if not all(part.isidentifier() for part in name.split(".")):
            raise ConfigError(
                f"{text!r} is neither a file nor a module: use job.py, module[:function] or pipeline.yaml"
            )
        return cls(module=name, function=function or None)

    @contextlib.contextmanager
    def launched(self, argv: Sequence[str]) -> Iterator[None]:
        """Do what running the job's code does; the block runs after it, with ``__main__`` and paths still set.

        A job that the code hands back (a pipeline, an environment, a result) is run and waited for. One that it
        starts and leaves running is the caller's to wait for, inside the block.

        Args:
            argv: the job's own options; the code also sees them as ``sys.argv[1:]``.

        Raises:
            ConfigError: there is no such module or function, the function takes something unknown, or a script or
                module ends without having run a pipeline.
            MissingExtra: the target is YAML and Beam's YAML support is not installed.
            SystemExit: the code ended itself with an exit code that is not 0.
            Exception: whatever else the job's code raises.
        """
        script = self.path is not None and self.function is None and not self.path.endswith(_YAML)
        with _as_main_script(str(self.path), argv) if script else _arguments(self.path or str(self.module), argv):
            try:
                with counting_pipelines() as seen:
                    if script:
                        _run_script(str(self.path), argv, seen)
                    elif self.path is not None and self.function is None:
                        run_yaml(self.path, argv)
                    else:
                        self._run_module(argv, seen)
            except SystemExit as exit_:
                if exit_.code not in (None, 0):
                    raise
            yield

    def _run_module(self, argv: Sequence[str], seen: PipelineCount) -> None:
        module = _import_file(self.path) if self.path else _import_module(str(self.module))
        if self.function is None and seen.run and _entry_of(module) is None:
            return  # the body of the module was the job
        _finish(_call(_entry(module, self.function), argv))


def _run_script(path: str, argv: Sequence[str], seen: PipelineCount) -> None:
    main = sys.modules["__main__"]
    source = _source(path)
    # Else the script would inherit this module's __future__ imports, and its type hints be text.
    exec(compile(source, str(main.__file__), "exec", dont_inherit=True), main.__dict__)
    if seen.run:
        return
    entry = _entry_of(main)
    # A script that asks for its own name has decided by itself what to call.
    if entry is not None and b"__name__" not in source and not seen.built:
        _finish(_call(entry, argv))
        return
    if seen.built:
        note = f"note: {path} builds a pipeline and does not run it: end it with p.run(), or use `with beam.Pipeline()`"
        click.echo(note, err=True)
        return
    named = f" Its function {entry.__name__} was not called: sage run {path}:{entry.__name__}" if entry else ""
    raise ConfigError(f"{path} ran to its end without running a pipeline: it builds none.{named}")


def _existing_file(name: str) -> str:
    if os.path.isdir(name):
        raise ConfigError(f"{name} is a folder: name a file, or a module as package.module")
    if os.path.isfile(name):
        return name
    folder = os.path.dirname(name) or "."
    if not os.path.isdir(folder):
        raise ConfigError(f"there is no file {name}: the folder {folder} does not exist")
    near = difflib.get_close_matches(os.path.basename(name), os.listdir(folder), n=1)
    hint = f". Did you mean {os.path.join(os.path.dirname(name), near[0])}?" if near else ""
    raise ConfigError(f"there is no file {name}{hint}")


@contextlib.contextmanager
def _arguments(program: str, argv: Sequence[str], folder: str = "") -> Iterator[None]:
    """``sys.argv`` and the head of ``sys.path`` as Python itself would set them for the program."""
    saved_argv, saved_path = sys.argv, list(sys.path)
    sys.argv = [program, *argv]
    sys.path.insert(0, folder or os.getcwd())
    try:
        yield
    finally:
        sys.argv = saved_argv
        sys.path[:] = saved_path


@contextlib.contextmanager
def _as_main_script(path: str, argv: Sequence[str]) -> Iterator[None]:
    """An empty ``__main__`` module for the file.

    It stays ``__main__`` until the block closes, since worker processes and picklers look there for the functions
    of a job that is still running when its script has reached its end.
    """
    module = types.ModuleType("__main__")
    module.__file__ = os.path.abspath(path)
    saved = sys.modules["__main__"]
    with _arguments(path, argv, os.path.dirname(os.path.abspath(path))):
        sys.modules["__main__"] = module
        try:
            yield
        finally:
            sys.modules["__main__"] = saved


def _source(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error


def _import_module(name: str) -> types.ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # A module that the user's module misses is the user's own error, and shown as such.
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise ConfigError(
                f"there is no module {name!r} here or on the Python path (a script is named with its .py)"
            ) from error
        raise


def _import_file(path: str) -> types.ModuleType:
    name = os.path.splitext(os.path.basename(path))[0]
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path} is not a Python file: a function is looked for in a .py file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _entry_of(module: types.ModuleType) -> Callable[..., Any] | None:
    """Returns what runs the job of a module that names none: its function main or run, which a package may import from
    a module of its own; one from elsewhere is another's.
    """
    for name in ("main", "run"):
        found = getattr(module, name, None)
        home = getattr(found, "__module__", module.__name__)
        if callable(found) and f"{home}.".startswith(f"{module.__name__}."):
            return found
    return None


def _entry(module: types.ModuleType, function: str | None) -> Callable[..., Any]:
    if function is None:
        if (entry := _entry_of(module)) is not None:
            return entry
        raise ConfigError(
            f"module {module.__name__!r} has neither main nor run: name the function, as in {module.__name__}:build"
        )
    found = getattr(module, function, None)
    if found is None:
        functions = [name for name, value in vars(module).items() if callable(value) and name[0] != "_"]
        near = difflib.get_close_matches(function, functions, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"module {module.__name__!r} has no function {function!r}.{hint}")
    if not callable(found):
        raise ConfigError(f"{module.__name__}:{function} is no function: its type is {type(found).__name__}")
    return found


def _call(function: Callable[..., Any], argv: Sequence[str]) -> object:
    """Call a job function with what its first parameter asks for by its name or its annotation."""
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    parameters = list(inspect.signature(function, eval_str=False).parameters.values())
    first = parameters[0] if parameters else None
    if first is None or first.kind in (first.VAR_POSITIONAL, first.VAR_KEYWORD, first.KEYWORD_ONLY):
        return function()
    wanted = f"{first.name} {getattr(first.annotation, '__name__', first.annotation)}".lower()
    if "options" in wanted:
        return function(PipelineOptions(list(argv)))
    if "argv" in wanted or "args" in wanted:
        return function(list(argv))
    if "pipeline" in wanted or first.name == "p":
        pipeline = beam.Pipeline(options=PipelineOptions(list(argv)))
        function(pipeline)
        return pipeline
    if first.default is not first.empty:
        return function()
    raise ConfigError(
        f"cannot call {function.__name__}({', '.join(p.name for p in parameters)}): the first parameter of a job "
        "function is argv (the job's options as a list), options (as PipelineOptions), pipeline (to add steps to), "
        "or there is none"
    )


def _finish(result: object) -> None:
    """Run what a job function returned, if it is a pipeline or an environment, and wait for what runs."""
    import apache_beam as beam

    if isinstance(result, beam.Pipeline):
        result = result.run()
    elif callable(getattr(result, "execute", None)):
        result = result.execute()  # type: ignore[attr-defined]
    if callable(getattr(result, "wait_until_finish", None)):
        result.wait_until_finish()  # type: ignore[attr-defined]
    elif isinstance(result, int) and not isinstance(result, bool) and result != 0:
        # A main function that returns its exit code, as for sys.exit(main()).
        raise SystemExit(result)
