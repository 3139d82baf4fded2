"""`sage checkpoints`: what is told of a folder, and of a job and a checkpoint that do not go together."""

from __future__ import annotations

from pathlib import Path

import pytest

from sage.jobs.cli.capture import capture, plan_of
from sage.jobs.cli.target import Target
from sage.runners.engine.checkpoint.identity import describe
from sage.runners.engine.checkpoint.protocol import Kind
from sage.runners.engine.checkpoint.snapshot import RootSnapshot, StageSnapshot
from sage.runners.state.snapshots import CheckpointStore

COUNTS = """
    from apache_beam import coders
    from apache_beam.transforms.userstate import ReadModifyWriteStateSpec

    class Count(beam.DoFn):
        TOTAL = ReadModifyWriteStateSpec("tot", coders.VarIntCoder())

        def process(self, element, total=beam.DoFn.StateParam(TOTAL)):
            total.write((total.read() or 0) + 1)

    with beam.Pipeline() as p:
        p | beam.Create([("a", 1), ("b", 2)]) | "Count" >> beam.ParDo(Count())
"""


@pytest.fixture
def taken(sage, script, tmp_path):
    """A job, and a checkpoint that was taken of it."""
    job = script(COUNTS)
    plan = plan_of(capture(Target.parse(str(job)), ()))
    store = CheckpointStore(str(tmp_path / "checkpoints"), "job")
    store.acquire()
    run = CheckpointStore(str(tmp_path / "checkpoints"), "job", store.new_run())
    receipt = run.write(1, 0, {"Count": StageSnapshot(0, RootSnapshot(keyed=b"what it counted"))})
    manifest = store.publish(1, {0: receipt}, describe(plan), Kind.PERIODIC, "")
    store.release()
    return job, Path(manifest.url)


def test_a_job_goes_on_from_its_own(sage, taken):
    job, path = taken
    assert sage("checkpoints", "check", path, job).code == 0


def test_state_by_another_name_is_found(sage, script, taken):
    ran = sage("checkpoints", "check", taken[1], script(COUNTS.replace('"tot"', '"total"'), "renamed.py"))
    assert (ran.code, "state 'tot' no more (new are: state 'total')" in ran.out) == (1, True)


def test_a_byte_that_changed_is_found(sage, taken):
    job, path = taken
    (part,) = path.glob("*.bin")
    data = bytearray(part.read_bytes())
    data[-1] ^= 1
    part.write_bytes(data)
    ran = sage("checkpoints", "check", path, job)
    assert (ran.code, f"{part} is not what was written" in ran.err) == (1, True)


def test_a_folder_around_it_names_it(sage, taken):
    _, path = taken
    ran = sage("checkpoints", "inspect", path.parent)
    assert ran.code == 1
    assert f"below it there are {path}: name one of them" in ran.err
    assert "MANIFEST" not in ran.err


def test_there_is_nothing_to_list_where_nothing_is(sage, tmp_path):
    ran = sage("checkpoints", "list", tmp_path / "nonexist")
    assert (ran.code, f"there is nothing in {tmp_path}/nonexist" in ran.err) == (1, True)
