"""What all tests share: what the marks `ray`, `flink` and `kafka` need, and who brings it."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.patience import patience

if TYPE_CHECKING:
    from tests.kafka.broker import Broker
    from tests.kafka.cluster import Cluster

# mark -> (module, why it may be missing)
NEEDS = {
    "ray": ("ray", "ray is in the other environment: make test-beam-min"),
    "flink": ("pyflink", "apache-flink needs Beam 2.61 and Python 3.10-3.12: make test-beam-min"),
}


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Makes the limit of a test, and of a test that names its own, as long as `patience` has it."""
    from hypothesis import settings

    if config.getoption("timeout", None) is None and "PYTEST_TIMEOUT" not in os.environ:
        config.option.timeout = patience(float(config.getini("timeout")))
    settings.register_profile("patient", deadline=None)  # a slow example is no failure
    settings.load_profile("patient")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips what this environment cannot have. A part that is merely not set up is a failure, not a skip."""
    for item in items:
        if (limit := item.get_closest_marker("timeout")) is not None and limit.args:
            item.add_marker(pytest.mark.timeout(patience(limit.args[0])), append=False)
        for mark, (module, why) in NEEDS.items():
            if item.get_closest_marker(mark) and importlib.util.find_spec(module) is None:
                item.add_marker(pytest.mark.skip(reason=why))
        if item.get_closest_marker("flink") and not _has_java() and not os.environ.get("CI"):
            item.add_marker(pytest.mark.skip(reason="no Java runtime: install the [java] extra and set JAVA_HOME"))


def _has_java() -> bool:
    return bool(os.environ.get("JAVA_HOME") or shutil.which("java"))


@pytest.fixture
def own_broker() -> Iterator[Broker]:
    """A broker that a test may kill."""
    from tests.kafka.broker import Broker, Unavailable

    try:
        broker = Broker().start()
    except Unavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    yield broker
    broker.close()


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[Cluster]:
    """A Kafka broker: that of ``SAGE_TEST_KAFKA=host:port``, or one that all processes of this test run share."""
    from tests.kafka.broker import Unavailable, shared
    from tests.kafka.cluster import Cluster

    base = tmp_path_factory.getbasetemp()
    lease = None
    try:
        address = os.environ.get("SAGE_TEST_KAFKA")
        if not address:
            address, lease = shared(_of_the_run(base, worker_id) / "kafka")
    except Unavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    cluster = Cluster(address)
    yield cluster
    cluster.close()
    if lease is not None:
        os.close(lease)


def _of_the_run(base: Path, worker_id: str) -> Path:
    """The folder of a test run; each process of pytest-xdist has one of its own in it."""
    return base if worker_id == "master" else base.parent
