"""An environment's config is checked, becomes Beam options, and its job can be run, submitted and steered."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import DebugOptions, PipelineOptions, StandardOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

import sage
from sage.errors import ConfigError, StepError
from sage.handle import JobHandle, JobState
from sage.options import SageOptions
from sage.runner_names import RUNNERS
from sage.steps import PARALLELISM, RESOURCES
from sage.testing import FN_API_RUNNER
from tests.patience import patience


def test_config_becomes_beam_options() -> None:
    env = sage.LocalEnvironment(
        "job", {"workers": 2, "memory_limit": "512MB", "streaming": True, "experiments": ["a", "b"]}
    )
    assert env.options.view_as(SageOptions).workers == 2
    assert env.options.view_as(SageOptions).memory_limit == 512 * 1024**2
    assert env.options.view_as(StandardOptions).streaming is True
    assert {"a", "b"} <= set(env.options.view_as(DebugOptions).experiments)
    assert type(env.pipeline.runner).__name__ == "LocalRunner"


def test_config_goes_over_options_and_options_over_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["job.py", "--workers=3", "--spill_dir=/here", "--mine=1"])
    assert sage.LocalEnvironment("job").options.view_as(SageOptions).workers == 3
    both = sage.LocalEnvironment("job", {"workers": 2}).options.view_as(SageOptions)
    assert (both.workers, both.spill_dir) == (2, "/here")
    given = PipelineOptions(["--workers=4", "--spill_dir=/there"])
    over = sage.LocalEnvironment("job", {"workers": 5}, given).options.view_as(SageOptions)
    assert (over.workers, over.spill_dir) == (5, "/there")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"worker": 2}, "unknown config key 'worker'; did you mean 'workers'. Accepted keys: runner, .*memory_limit"),
        ({"workers": "many"}, "--workers: 'many' is not a valid int"),
        ({"memory_limit": "lots"}, "'lots' is not a size in bytes"),
        ({"execution_path": "fast"}, "--execution_path: 'fast' is not one of"),
        ({"runner": "no.such.Runner"}, "No module named 'no'"),
        ({"runner": "Nonesuch"}, "Unexpected pipeline runner: Nonesuch"),
        ({"runner": 7}, "runner must be a name or a PipelineRunner, not int"),
        ([("workers", 2)], "config must be a dict, not list"),
    ],
)
def test_a_bad_config_is_refused(config: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")) as failure:
        sage.LocalEnvironment("mine", config)
    assert str(failure.value).startswith("LocalEnvironment('mine'): ")


def test_the_runner_may_be_an_object_and_sage_run_may_name_another(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = FnApiRunner()
    assert sage.Environment("job", {"runner": runner}).pipeline.runner is runner
    monkeypatch.setitem(RUNNERS, "ray", FN_API_RUNNER)
    monkeypatch.setattr(StandardOptions, "DEFAULT_RUNNER", FN_API_RUNNER)
    assert isinstance(sage.LocalEnvironment("job").pipeline.runner, FnApiRunner)
    assert type(sage.LocalEnvironment("job", {"runner": "local"}).pipeline.runner).__name__ == "LocalRunner"


def test_resources_and_parallelism_are_in_the_pipeline_proto() -> None:
    env = sage.LocalEnvironment("job")
    needs = {"num_cpus": 1.5, "memory": "2GB", "num_gpus": 0.5}
    env.from_collection([1]).map(abs, name="Big", parallelism=4, resources=needs)
    proto = env.pipeline.to_runner_api()
    step = next(t for t in proto.components.transforms.values() if t.unique_name == "Big")
    assert step.annotations[PARALLELISM] == b"4"
    assert json.loads(step.annotations[RESOURCES]) == {"memory": 2 * 1024**3, "num_cpus": 1.5, "num_gpus": 0.5}
    hints = proto.components.environments[step.environment_id].resource_hints
    assert hints["beam:resources:min_ram_bytes:v1"] == str(2 * 1024**3).encode()
    if beam.transforms.resources.ResourceHint.is_registered("cpu_count"):
        assert hints["beam:resources:cpu_count:v1"] == b"2"


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"parallelism": 0}, "parallelism must be a whole number of 1 or more, not 0"),
        ({"resources": {"num_cpu": 1}}, "unknown resources key 'num_cpu'; did you mean 'num_cpus'"),
        ({"resources": {"num_gpus": "one"}}, r"resources\['num_gpus'\] must be a number"),
        ({"resources": {"memory": "big"}}, r"resources\['memory'\]: 'big' is not a size in bytes"),
        ({"resources": 4}, "resources must be a dict, not int"),
    ],
)
def test_bad_resources_are_refused(env: sage.LocalEnvironment, step: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"map\(abs\): {message}"):
        env.from_collection([1]).map(abs, **step)


def test_a_collection_of_the_pipeline_is_a_stream(env: sage.LocalEnvironment) -> None:
    mine = env.from_pcollection(env.pipeline | beam.Create([1]))
    assert mine.pcollection.pipeline is env.pipeline
    with pytest.raises(ConfigError, match="belongs to another pipeline"):
        sage.LocalEnvironment("other").from_pcollection(mine.pcollection)


RELEASE = threading.Event()


def _wait(value: int) -> int:
    assert RELEASE.wait(patience(60))
    return value


def test_submit_returns_a_handle_at_once(env: sage.LocalEnvironment) -> None:
    RELEASE.clear()
    env.from_collection([1, 2]).map(_wait).map(_count)
    job = env.submit()
    assert isinstance(job, JobHandle)
    assert not job.done
    job.wait_until_finish(duration=1)
    assert job.state in (JobState.STARTING, JobState.RUNNING)
    RELEASE.set()
    assert job.wait_until_finish() == JobState.DONE
    assert job.done
    assert job.state == JobState.DONE
    assert [counter.result for counter in job.metrics().query()["counters"]] == [2]
    assert "map(_wait)" in {step.name for step in job.progress()}
    assert "map(_wait)" in job.paths()


def _count(value: int) -> int:
    beam.metrics.Metrics.counter("test", "seen").inc()
    return value


def _fail(value: int) -> int:
    raise ValueError("bad row")


def test_a_submitted_job_that_fails_says_so_when_it_is_waited_for(env: sage.LocalEnvironment) -> None:
    env.from_collection([1]).map(_fail)
    job = env.submit()
    with pytest.raises(StepError, match="bad row"):
        job.wait_until_finish()
    assert job.state == JobState.FAILED
    with pytest.raises(StepError, match=r"map\(_fail\)"):
        env.execute()


def test_a_job_on_a_runner_without_a_handle_can_be_submitted() -> None:
    env = sage.Environment("job", {"runner": FnApiRunner()})
    env.from_collection([1]).map(_count)
    job = env.submit()
    assert job.wait_until_finish() == "DONE"
    assert (job.progress(), job.paths()) == ((), {})


def test_a_script_that_ends_does_not_end_the_job_it_submitted() -> None:
    script = (
        "import sage, time\n"
        "env = sage.LocalEnvironment('job')\n"
        "env.from_collection([1, 2]).map(lambda v: time.sleep(0.2) or v).reduce(max).sink(print)\n"
        "env.submit()\n"
        "print('script ends')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, timeout=patience(60), capture_output=True, text=True
    )
    assert done.stdout.split("\n") == ["script ends", "2", ""]


def test_import_of_sage_brings_no_beam() -> None:
    code = (
        "import sage, sys\n"
        "sage.MapFunction, sage.KeyedProcessFunction, sage.ValueState, sage.ConfigError\n"
        "assert 'apache_beam' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=patience(60))


def test_every_export_is_there_and_typed() -> None:
    with open(sage.__file__, encoding="utf-8") as file:
        source = file.read()
    for name in sage.__all__:
        assert getattr(sage, name) is not None
        assert f" import {name} as {name}\n" in source
    with pytest.raises(AttributeError, match="no attribute 'nonesuch'"):
        sage.nonesuch


def test_the_documented_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    words = (env := sage.LocalEnvironment("word count")).from_collection(["to be", "or not to be"])
    words.flat_map(str.split).map(lambda word: (word, 1)).as_keyed().aggregate(sum).sink(print)
    env.execute()
    assert sorted(_lines(capsys.readouterr().out)) == ["('be', 2)", "('not', 1)", "('or', 1)", "('to', 2)"]


def _lines(text: str) -> Iterator[str]:
    yield from text.splitlines()
