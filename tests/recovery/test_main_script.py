"""A script's own classes: their values are read again at any number of workers, in state, checkpoints and Create."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.tree import ROOT
from tests.patience import patience

SCRIPT = '''
import sys, time
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.coders import PickleCoder
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec

from sage.runners.local import LocalRunner
from sage.sources import ReadStream
from tests.recovery.streams import Numbers

UPTO = 2_000


@dataclass
class Seen:
    count: int


class Count(beam.DoFn):
    SEEN = ReadModifyWriteStateSpec("seen", PickleCoder())

    def process(self, pair, seen=beam.DoFn.StateParam(SEEN)):
        now = Seen((seen.read() or Seen(0)).count + 1)
        assert type(seen.read()) in (Seen, type(None))
        seen.write(now)
        if now.count == UPTO:
            yield f"{pair[0]} {now.count}"


def main(workers, rate, stop):
    pipeline = beam.Pipeline(LocalRunner(), options=PipelineOptions(
        [], workers=workers, checkpoint_dir="kept", checkpoint_interval="50ms"))
    numbers = pipeline | ReadStream(Numbers(UPTO, rate)) | beam.Map(lambda pair: (str(pair[0]), pair[1]))
    numbers | beam.ParDo(Count()) | beam.Map(lambda line: open(line, "x").close())
    job = pipeline.run()
    while stop and not (job.vitals().read or 0) > UPTO // 4:
        time.sleep(0.01)
    if stop:
        job.stop("half-way")
    job.wait_until_finish()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
'''


@pytest.mark.parametrize(("first", "then"), [(1, 2), (2, 2), (2, 1)])
def test_values_of_a_class_of_the_main_script_are_kept_and_resumed(first: int, then: int, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    for workers, rate, stop in ((first, 1_500, 1), (then, 0, 0)):
        command = [sys.executable, "script.py", str(workers), str(rate), str(stop)]
        done = subprocess.run(
            command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=patience(120)
        )
        assert done.returncode == 0, done.stderr
        found = {path.name for path in tmp_path.iterdir()} - {"script.py", "kept"}
        assert found == (set() if stop else {"north 2000", "south 2000", "west 2000"})


HELD = """
import dataclasses, enum

import apache_beam as beam

from sage.runners.local import LocalRunner


class Colour(enum.Enum):
    RED = 1


@dataclasses.dataclass(frozen=True)
class Shop:
    city: str


@dataclasses.dataclass
class Sale:
    shop: Shop
    colour: Colour


with beam.Pipeline(LocalRunner(), argv=["--workers", __import__("sys").argv[1]]) as pipeline:
    sales = pipeline | beam.Create([Sale(Shop(city), Colour.RED) for city in ("Oslo", "Rome", "Oslo")])
    sales | beam.GroupBy(lambda sale: sale.shop) | beam.MapTuple(lambda shop, all: print(shop.city, len(list(all))))
print([field.name for field in dataclasses.fields(Sale)])
"""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_what_create_holds_may_be_of_classes_of_the_main_script(workers: str, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(HELD)
    done = subprocess.run(
        [sys.executable, "script.py", workers], cwd=tmp_path, capture_output=True, text=True, timeout=patience(120)
    )
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == ["Oslo 2", "Rome 1", "['shop', 'colour']"]
