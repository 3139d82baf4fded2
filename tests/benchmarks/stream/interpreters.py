"""Which Python has which peer: what they depend on does not go together, so each may have its own environment."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path

from tests.benchmarks.measure import ROOT

__all__ = ["PEERS", "interpreter"]

PEERS = {
    "bytewax": ("bytewax", "SAGE_BENCH_PEERS", ".venv-bench-peers"),
    "pathway": ("pathway", "SAGE_BENCH_PEERS", ".venv-bench-peers"),
    "quix": ("quixstreams", "SAGE_BENCH_PEERS", ".venv-bench-peers"),
    "flink": ("pyflink", "SAGE_BENCH_FLINK", ".venv-beam-min"),
}
"""By peer: the module to import, the variable that names a Python that has it, and the environment of old."""


@functools.cache
def interpreter(way: str) -> str | None:
    """The Python that can run a peer, this one for what is no peer; None if there is none.

    Looked for: this Python, then what the variable names, then the environment that ``make bench-stream`` makes.
    """
    if way not in PEERS:
        return sys.executable
    module, variable, folder = PEERS[way]
    places = [sys.executable, os.environ.get(variable, ""), str(ROOT / folder / "bin" / "python")]
    return next((python for python in places if python and Path(python).exists() and _has(python, module)), None)


def _has(python: str, module: str) -> bool:
    code = f"import importlib.util as u, sys; sys.exit(u.find_spec({module!r}) is None)"
    return subprocess.run([python, "-c", code], capture_output=True).returncode == 0
