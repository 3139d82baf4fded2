"""How a running job is asked from another terminal: a Unix socket of the process that drives it.

While `sage run` runs jobs, it listens at ``<folder>/<process id>.sock``, where the folder belongs to the user alone. A
connection carries one question and one answer, each a line of JSON::

    {"do": "status"}                                      {"ok": [{"name": "orders", "state": "RUNNING", ...}]}
    {"do": "savepoint", "job": "orders", "name": "one"}   {"ok": "/var/checkpoints/orders/savepoints/one"}
    {"do": "stop", "job": "nope"}                         {"error": "no job 'nope' runs there"}

What can be asked: ``status``, ``savepoint``, ``stop``, ``drain``, ``cancel``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import socketserver
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sage.errors import CheckpointError, ConfigError
from sage.handle import JobHandle, JobState
from sage.jobs.cli.progress import merge_steps

__all__ = ["RunningJob", "ask", "find_job", "registry", "running_jobs", "serving"]

_CONNECT_SECONDS = 2.0
_LOOK_SECONDS = 0.05  # after so long at most the end of a job is seen, and the command ends
_LONGEST_LINE = 1 << 16


def registry() -> Path:
    """The folder of the sockets; made where it is missing.

    Raises:
        ConfigError: somebody else could reach into it.
    """
    base = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(base, "sage") if base else Path(tempfile.gettempdir(), f"sage-{os.getuid()}")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise ConfigError(f"{folder} must be a folder of your own, with mode 700: jobs are steered through it")
    return folder


@dataclass(frozen=True)
class RunningJob:
    """A job that runs on this machine: where it can be asked, and what it said of itself."""

    path: Path
    process: int
    status: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.status["name"])


# The side of the job.


@contextlib.contextmanager
def serving(handles: Sequence[JobHandle]) -> Iterator[None]:
    """Answers questions about these jobs, and about those that are added, while the block is open."""
    try:
        path = registry() / f"{os.getpid()}.sock"
        path.unlink(missing_ok=True)
        server = _Server(str(path), handles)
    except (OSError, ConfigError):
        # A job must not fail because nobody can ask it; whoever asks is told that no such job is there.
        yield
        return
    thread = threading.Thread(target=server.serve_forever, args=(_LOOK_SECONDS,), name="sage-control", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        path.unlink(missing_ok=True)


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def __init__(self, path: str, handles: Sequence[JobHandle]) -> None:
        self.handles = handles
        super().__init__(path, _Question)


class _Question(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        try:
            question = json.loads(self.rfile.readline(_LONGEST_LINE))
            answer: dict[str, Any] = {"ok": _answer(self.server.handles, question)}
        except Exception as error:
            answer = {"error": str(error) or type(error).__name__}
        with contextlib.suppress(OSError):
            self.wfile.write(json.dumps(answer, default=str).encode() + b"\n")


def _answer(handles: Sequence[JobHandle], question: dict[str, Any]) -> Any:
    running = [handle for handle in handles if not JobState(str(handle.state)).terminal]
    if question.get("do") == "status":
        return [_status(handle) for handle in running]
    verb = _VERBS.get(str(question.get("do")))
    if verb is None:
        raise ConfigError(f"{question.get('do')!r} is none of status, {', '.join(_VERBS)}")
    name = question.get("job")
    for handle in running:
        if handle.name == name:
            return verb(handle, str(question.get("name") or ""))
    raise ConfigError(f"no job {name!r} runs there")


def _steered(verb: str) -> Callable[[JobHandle, str], Any]:
    def steer(handle: JobHandle, name: str) -> Any:
        method = getattr(handle, verb, None)
        if method is None:
            raise CheckpointError("the runner of this job takes no checkpoints: it can only be cancelled")
        return method(name) if verb != "drain" else method()

    return steer


_VERBS: dict[str, Callable[[JobHandle, str], Any]] = {
    "savepoint": _steered("savepoint"),
    "stop": _steered("stop"),
    "drain": _steered("drain"),
    "cancel": lambda handle, _: str(handle.cancel()),
}


def _status(handle: JobHandle) -> dict[str, Any]:
    vitals = getattr(handle, "vitals", lambda: None)()
    return {
        "name": handle.name,
        "state": str(handle.state),
        "steps": [dataclasses.asdict(step) for step in merge_steps(handle.progress())],
        "vitals": None if vitals is None else dataclasses.asdict(vitals),
    }


# The side of whoever asks.


def ask(path: Path, timeout: float | None = None, **question: Any) -> Any:
    """Asks one question; gives the answer.

    Args:
        path: the socket.
        timeout: how long to wait for the answer (seconds); None for as long as it takes.

    Raises:
        OSError: nobody listens there.
        CheckpointError: the job said no; the message says why.
    """
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(_CONNECT_SECONDS)
        line.connect(str(path))
        line.settimeout(timeout)
        line.sendall(json.dumps(question).encode() + b"\n")
        with line.makefile("rb") as reader:
            data = reader.readline()
    if not data:
        raise CheckpointError("the job ended before it answered")
    answer = json.loads(data)
    if "error" in answer:
        raise CheckpointError(answer["error"])
    return answer["ok"]


def running_jobs() -> list[RunningJob]:
    """The jobs of this user that run on this machine under `sage run`. Sockets that nobody listens at are removed."""
    found = []
    for path in sorted(registry().glob("*.sock")):
        try:
            statuses = ask(path, _CONNECT_SECONDS, do="status")
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            continue
        except (OSError, ValueError, CheckpointError):
            continue
        found += [RunningJob(path, int(path.stem), status) for status in statuses]
    return found


def find_job(text: str | None) -> RunningJob:
    """The running job that is meant: by name or process id, or the only one there is.

    Raises:
        ConfigError: there is none, or more than one.
    """
    jobs = running_jobs()
    meant = [job for job in jobs if text is None or text in (job.name, str(job.process))]
    if len(meant) == 1:
        return meant[0]
    listed = ", ".join(f"{job.name} (process {job.process})" for job in (meant or jobs)) or "none"
    if meant:
        raise ConfigError(f"which job? Name it, or its process id: {listed}")
    wanted = "no job runs" if text is None else f"no job {text!r} runs"
    raise ConfigError(f"{wanted} on this machine under `sage run`; running: {listed}")
