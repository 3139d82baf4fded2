from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sage.jobs.cli import main


@dataclass(frozen=True)
class Ran:
    """What a command line did."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        return json.loads(self.out)


@pytest.fixture
def sage(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Runs `sage ARGS` in this process."""

    def run(*args: object) -> Ran:
        capfd.readouterr()
        code = main([str(arg) for arg in args])
        captured = capfd.readouterr()
        return Ran(int(code), captured.out, captured.err)

    return run


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., Path]:
    """Writes a job to a file; `import apache_beam as beam` is its first line."""

    def write(body: str, name: str = "job.py") -> Path:
        path = tmp_path / name
        path.write_text("import apache_beam as beam\n" + textwrap.dedent(body))
        return path

    return write
