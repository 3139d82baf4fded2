"""`sage version`: the versions that a bug report needs."""

from __future__ import annotations

import importlib.metadata
import platform

import click

import sage

__all__ = ["installed_version", "version"]


def installed_version(distribution: str) -> str | None:
    """The version of an installed distribution, or None; read from its metadata, so nothing is imported."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


@click.command()
def version() -> None:
    """Print the versions of SAGE, Apache Beam and Python."""
    click.echo(f"sage {sage.__version__}")
    click.echo(f"apache-beam {installed_version('apache-beam') or 'not installed'}")
    click.echo(f"python {platform.python_version()} ({platform.platform(terse=True)})")
