"""Writes the pins: what pip resolves for one environment on each Python it has to work on, merged with markers.

    python tests/constraints/resolve.py newest dev,yaml python3.10 python3.11 python3.12 python3.13 > newest.txt

A package that resolves to one version everywhere is one line; one that does not gets a line per Python. pip itself
resolves, on each interpreter, from pyproject.toml's ranges, so that the pins are a choice within them and never wider.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def resolve(interpreter: str, name: str, extras: str) -> tuple[str, dict[str, str]]:
    """The interpreter's version, as ``3.11``, and the version of each package that pip would install with it."""
    command = [interpreter, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
    command += ["--report", "-", "--constraint", str(HERE / f"{name}.in"), f"{ROOT}[{extras}]"]
    report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=ROOT).stdout)
    packages = {
        re.sub(r"[-_.]+", "-", item["metadata"]["name"]).lower(): item["metadata"]["version"]
        for item in report["install"]
        if "dir_info" not in item["download_info"]
    }
    return ".".join(report["environment"]["python_full_version"].split(".")[:2]), packages


def merge(resolved: dict[str, dict[str, str]]) -> list[str]:
    """One constraint line per package and version, with a marker where not every Python agrees."""
    by_package: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for python, packages in resolved.items():
        for package, version in packages.items():
            by_package[package][version].append(python)
    lines = []
    for package, versions in sorted(by_package.items()):
        for version, pythons in versions.items():
            everywhere = len(versions) == 1
            marker = " or ".join(f'python_version == "{python}"' for python in pythons)
            lines.append(f"{package}=={version}" + ("" if everywhere else f" ; {marker}"))
    return lines


def main() -> None:
    """Prints the constraints of one environment to standard output."""
    name, extras, *interpreters = sys.argv[1:]
    resolved = dict(resolve(interpreter, name, extras) for interpreter in interpreters)
    print(
        f"# Pins of the {name!r} environment ({extras}) on Python {', '.join(resolved)}: `make pins` writes this file."
    )
    print("\n".join(merge(resolved)))


if __name__ == "__main__":
    main()
