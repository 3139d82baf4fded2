"""The runners of other hosts: cheap to import, and one line where their extra is missing."""

from __future__ import annotations

import subprocess
import sys

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from sage.errors import ConfigError, MissingExtra
from sage.runners.flink import FlinkRunner
from sage.runners.ray import RayRunner
from tests.patience import patience


def start(runner: beam.runners.PipelineRunner, *options: str) -> None:
    p = beam.Pipeline(runner=runner, options=PipelineOptions(list(options)))
    p | beam.Impulse()
    p.run()


@pytest.mark.parametrize(("package", "module"), [("sage.runners.ray", "ray"), ("sage.runners.flink", "pyflink")])
def test_a_host_is_not_imported_with_its_runner(package: str, module: str) -> None:
    code = f"import sys, {package}; print({module!r} in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=patience(60), check=True
    )
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("runner", "module", "extra"), [(RayRunner(), "ray", "ray"), (FlinkRunner(), "pyflink", "flink")]
)
def test_a_missing_extra_is_one_line_that_says_what_to_install(
    runner: beam.runners.PipelineRunner, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith(f"sage.runners.{extra}.job")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    with pytest.raises(MissingExtra, match=rf"needs an extra: pip install 'sage-stream\[{extra}\]'$"):
        start(runner)


@pytest.mark.flink
def test_another_flink_than_the_local_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="--flink_master=there:8081: only"):
        start(FlinkRunner(), "--flink_master=there:8081")
