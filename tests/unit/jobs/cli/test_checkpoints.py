"""`sage checkpoints`: what is told of a folder, and of a job and a checkpoint that do not go together."""

from __future__ import annotations

from pathlib import Path

import pytest
from apache_beam.transforms.window import GlobalWindows

from sage.jobs.cli.capture import capture, plan_of
from sage.jobs.cli.target import Target
from sage.runners.engine.checkpoint.identity import describe
from sage.runners.engine.checkpoint.protocol import Kind
from sage.runners.engine.checkpoint.snapshot import RootSnapshot, StageSnapshot
from sage.runners.engine.serde.wire import encode_row
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


TOPICS = """
    from sage.sources import ReadStream, StreamSource

    class Topics(StreamSource):
        def reads(self, split):
            return split in ("orders", "visits")

    with beam.Pipeline() as p:
        p | "Topics" >> ReadStream(Topics())
"""


def _taken(job: Path, folder: Path, step: str, root: RootSnapshot) -> Path:
    """A checkpoint of a job in which one step holds something."""
    store = CheckpointStore(str(folder), "job")
    store.acquire()
    run = CheckpointStore(str(folder), "job", store.new_run())
    receipt = run.write(1, 0, {step: StageSnapshot(0, root)})
    plan = plan_of(capture(Target.parse(str(job)), ()))
    manifest = store.publish(1, {0: receipt}, describe(plan), Kind.PERIODIC, "")
    store.release()
    return Path(manifest.url)


@pytest.fixture
def taken(script, tmp_path):
    """A job, and a checkpoint that was taken of it."""
    job = script(COUNTS)
    return job, _taken(job, tmp_path / "checkpoints", "Count", RootSnapshot(keyed=b"what it counted"))


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


def test_there_is_nothing_to_list_where_no_folder_is(sage, tmp_path):
    ran = sage("checkpoints", "list", tmp_path / "nonexist")
    assert (ran.code, f"there is no folder {tmp_path}/nonexist" in ran.err) == (1, True)


def test_a_topic_that_is_named_no_more_is_found(sage, script, tmp_path):
    held = [GlobalWindows.windowed_value(((topic, ((7, False), None)), 1)) for topic in ("orders", "visits")]
    rows = [encode_row(element, 0) for element in held]
    job = script(TOPICS)
    path = _taken(job, tmp_path / "checkpoints", "Topics/Read", RootSnapshot(spread=rows))
    assert sage("checkpoints", "check", path, job).code == 0

    other = script(TOPICS.replace('("orders", "visits")', '("orders",)'), "other.py")
    ran = sage("checkpoints", "check", path, other)
    assert (ran.code, "step 'Topics/Read': the checkpoint reads visits, which" in ran.out) == (1, True)
    assert sage("checkpoints", "check", "--allow-dropped-state", path, other).code == 0
