"""The `sage` command: run a job, draw it, look after the machine it runs on."""

from __future__ import annotations

from sage.jobs.cli.app import main

__all__ = ["main"]
