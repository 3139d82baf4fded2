"""What all tests share: what `ray` and `flink` marks need, and which environment brings it."""

from __future__ import annotations

import importlib.util
import os
import shutil

import pytest

# mark -> (module, why it may be missing)
NEEDS = {
    "ray": ("ray", "ray is in the other environment: make test-beam-min"),
    "flink": ("pyflink", "apache-flink needs Beam 2.61 and Python 3.10-3.12: make test-beam-min"),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips what this environment cannot have. A part that is merely not set up is a failure, not a skip."""
    for item in items:
        for mark, (module, why) in NEEDS.items():
            if item.get_closest_marker(mark) and importlib.util.find_spec(module) is None:
                item.add_marker(pytest.mark.skip(reason=why))
        if item.get_closest_marker("flink") and not _has_java() and not os.environ.get("CI"):
            item.add_marker(pytest.mark.skip(reason="no Java runtime: install the [java] extra and set JAVA_HOME"))


def _has_java() -> bool:
    return bool(os.environ.get("JAVA_HOME") or shutil.which("java"))
