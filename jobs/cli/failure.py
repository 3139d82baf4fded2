"""What an error says to the person at the terminal: the step, their own line, the cause. Not our frames."""

from __future__ import annotations

import linecache
import os
import re
import site
import sysconfig
import traceback
from dataclasses import dataclass
from types import TracebackType

import click

from sage.errors import Fault, Location, SageError, StepError, message_of
from sage.source_line import operand_line
from sage.trace import is_framework, is_installed

__all__ = ["Failure", "explain", "show"]

# How Beam's own runners say in which step a user's function failed.
_BEAM_STEP = re.compile(r"\s*\[while running '(?P<step>.*?)'\]")


@dataclass(frozen=True)
class Failure:
    """An error, taken apart.

    Attributes:
        kind: the type of the cause, as ``ValueError``; empty for an error of ours, whose message says it all.
        message: what the cause says.
        step: the full name of the failed step, if a step failed.
        raised_at: the innermost line of the user's code, if there is one.
        applied_at: the line that applied the step, if it is known.
        fault: whose mistake it is.
        retryable: whether the same command may succeed later with nothing changed.
    """

    kind: str
    message: str
    step: str | None = None
    raised_at: Location | None = None
    applied_at: Location | None = None
    fault: Fault = Fault.USER_CODE
    retryable: bool = False

    def as_json(self) -> dict[str, object]:
        """The same as values that JSON knows."""
        return {
            "type": self.kind,
            "message": self.message,
            "step": self.step,
            "raised_at": _location_json(self.raised_at),
            "applied_at": _location_json(self.applied_at),
            "fault": self.fault.value,
            "retryable": self.retryable,
        }


def explain(error: BaseException) -> Failure:
    """Find the step, the user's line and the cause in what a job or its script raised."""
    step_error = _first_of_type(error, StepError)
    if step_error is not None:
        cause = step_error.cause
        return Failure(
            kind=type(cause).__name__,
            message=_BEAM_STEP.sub("", message_of(cause)),
            step=step_error.step,
            # A cause from a worker process has lost its traceback; the worker has looked at it then.
            raised_at=user_line(cause) or _with_text(step_error.raised_at),
            applied_at=_with_text(step_error.applied_at),
            fault=step_error.fault,
            retryable=step_error.retryable,
        )
    if isinstance(error, SageError):
        return Failure(
            kind=type(error).__name__,
            message=str(error),
            raised_at=user_line(error),
            fault=error.fault,
            retryable=error.retryable,
        )
    if isinstance(error, KeyboardInterrupt):
        return Failure(kind="KeyboardInterrupt", message="interrupted", fault=Fault.ENVIRONMENT, retryable=True)
    if isinstance(error, SystemExit):
        text = (
            str(error.code) if isinstance(error.code, str) else f"the script ended itself with exit code {error.code}"
        )
        return Failure(kind="SystemExit", message=text)
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        where = Location(error.filename, error.lineno, (error.text or "").strip())
        return Failure(kind=type(error).__name__, message=error.msg, raised_at=where)
    found = _BEAM_STEP.search(message_of(error))
    return Failure(
        kind=type(error).__name__,
        message=_BEAM_STEP.sub("", message_of(error)) + _variable_at_fault(error),
        step=found["step"] if found else None,
        raised_at=user_line(error),
    )


def _variable_at_fault(error: BaseException) -> str:
    """What Beam leaves out when a function cannot be pickled: which of the things it holds on to is to blame."""
    if not message_of(error).startswith("Unable to pickle fn"):
        return ""
    from sage.runners.driver.serialising import unpicklable_in

    variable = unpicklable_in(error.__traceback__)
    return f" At fault: {variable}." if variable else ""


def show(failure: Failure, error: BaseException, *, full: bool, attempts: int = 1) -> None:
    """Print a failure on stderr.

    Args:
        failure: what `explain` made of ``error``.
        error: the error.
        full: whether the whole traceback goes first.
        attempts: how often the job was tried (count).
    """
    if full:
        click.echo("".join(traceback.format_exception(error)).rstrip() + "\n", err=True)
    if isinstance(error, SageError) and failure.step is None:
        head = click.style("error: ", fg="red", bold=True) + failure.message
    elif failure.step is not None:
        head = click.style("error: ", fg="red", bold=True) + f"step {failure.step!r} failed\n\n"
        head += _indent(_message(failure))
    else:
        head = click.style("error: ", fg="red", bold=True) + _indent(_message(failure)).strip()
    click.echo(head, err=True)
    for label, place in (("raised at", failure.raised_at), ("applied at", failure.applied_at)):
        if place is not None:
            click.echo(f"\n  {label} {click.style(_shown(place), bold=True)}", err=True)
            if place.text:
                click.echo(f"      {place.text}", err=True)
    if failure.step is not None or not isinstance(error, SageError):
        retry = "trying again may help" if failure.retryable else "trying again will not help"
        if attempts > 1:
            retry = f"tried {attempts} times"
        rest = "" if full else "; --traceback shows every frame"
        click.echo(f"\n  fault: {failure.fault.value} ({retry}{rest})", err=True)


def _message(failure: Failure) -> str:
    return f"{failure.kind}: {failure.message}" if failure.message else failure.kind


def user_line(error: BaseException) -> Location | None:
    """The innermost line of user code in the traceback of ``error`` or of what caused it."""
    seen: set[int] = set()
    link: BaseException | None = error
    place: Location | None = None
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        # The deepest cause is nearest to the mistake, so the last link that has a user line wins.
        place = _innermost_user_frame(link.__traceback__) or place
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return place


def _innermost_user_frame(trace: TracebackType | None) -> Location | None:
    place = None
    while trace is not None:
        code = trace.tb_frame.f_code
        file = code.co_filename
        if not is_framework(file) and not file.startswith("<") and not _is_library(file):
            place = _with_text(Location(file, operand_line(code, trace.tb_lasti, trace.tb_lineno)))
        trace = trace.tb_next
    return place


def _is_library(file: str) -> bool:
    return os.path.abspath(file).startswith(_LIBRARY_FOLDERS) or is_installed(file)


def _library_folders() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    folders = {paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")}
    folders.update(site.getsitepackages())
    folders.add(os.path.dirname(__file__))
    return tuple(os.path.join(os.path.abspath(folder), "") for folder in folders)


_LIBRARY_FOLDERS = _library_folders()


def _first_of_type(error: BaseException, kind: type[StepError]) -> StepError | None:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        if isinstance(link, kind):
            return link
        seen.add(id(link))
        link = link.__cause__
    return None


def _with_text(place: Location | None) -> Location | None:
    if place is None or place.text:
        return place
    return Location(place.file, place.line, linecache.getline(place.file, place.line).strip())


def _location_json(place: Location | None) -> dict[str, object] | None:
    return None if place is None else {"file": place.file, "line": place.line, "text": place.text}


def _shown(place: Location) -> str:
    """A file below the working directory goes by its short name."""
    location = os.path.join(os.getcwd(), "")
    return f"{place.file.removeprefix(location)}:{place.line}"


def _indent(text: str) -> str:
    return "\n".join("  " + line for line in text.splitlines())
