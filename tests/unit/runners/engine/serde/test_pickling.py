"""Classes that are pickled by value."""

from __future__ import annotations

import dataclasses
import functools
import pickle
import subprocess
import sys
import uuid
from pathlib import Path
from typing import ClassVar, NewType

import pytest

from sage.runners.engine.serde import pickling
from tests.patience import patience


def test_a_dataclass_that_comes_back_knows_its_fields() -> None:
    @dataclasses.dataclass
    class Sale:
        kind: ClassVar[str] = "sale"
        shop: str
        items: list[int] = dataclasses.field(default_factory=list)

    came = pickle.loads(pickling.dumps(Sale))

    shop, items = dataclasses.fields(came)
    assert (shop.name, items.name) == ("shop", "items")
    assert shop.default is dataclasses.MISSING
    assert items.default_factory is list
    assert dataclasses.asdict(came("Oslo")) == {"shop": "Oslo", "items": []}


def test_classes_stay_apart_where_a_test_has_pinned_the_random_identifiers(monkeypatch: pytest.MonkeyPatch) -> None:
    class Sale:
        pass

    class Refund:
        pass

    monkeypatch.setattr(uuid, "uuid4", lambda: uuid.UUID(int=1))
    sale, refund = pickling.dumps(Sale), pickling.dumps(Refund)
    assert [pickle.loads(sale), pickle.loads(refund)] == [Sale, Refund]


SCRIPT = '''
import functools, sys
from typing import Generic, NewType, ParamSpec, TypeVar

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from sage.runners.local import LocalRunner

P, T = ParamSpec("P"), TypeVar("T")
UserId = NewType("UserId", int)


@functools.lru_cache(maxsize=7)
def square(x):
    return x * x


@functools.cache
def fibonacci(x):
    return x if x < 2 else fibonacci(x - 1) + fibonacci(x - 2)


@functools.singledispatch
def kind(x):
    return "object"


@kind.register
def _(x: int):
    return "int"


class Box(Generic[P, T]):
    @functools.lru_cache
    def double(self, x):
        return 2 * x

    @functools.singledispatchmethod
    def kind(self, x):
        return "object"

    @kind.register
    def _(self, x: int):
        return "int"


class Tell(beam.DoFn):
    def process(self, x):
        text = square(x), square.cache_parameters()["maxsize"], fibonacci(30), kind(x), kind("a"), UserId(x)
        yield text + (Box().double(x), Box().kind(x), Box.__parameters__ == (P, T))


if __name__ == "__main__":
    with beam.Pipeline(runner=LocalRunner(), options=PipelineOptions(sys.argv[1:])) as p:
        made = p | beam.Create([3]) | "Tell" >> beam.ParDo(Tell())
        made | "Same" >> beam.Map(lambda told, same=functools.partial(square): (told, same(4))) | beam.Map(print)
'''


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("way", ["file", "module", "stdin", "sage run"])
def test_what_the_main_script_defines_reaches_every_worker(tmp_path: Path, way: str, workers: int) -> None:
    (tmp_path / "job.py").write_text(SCRIPT)
    args = {
        "file": [sys.executable, "job.py"],
        "module": [sys.executable, "-m", "job"],
        "stdin": [sys.executable, "-"],
        "sage run": [str(Path(sys.executable).with_name("sage")), "run", "job.py"],
    }[way]
    made = subprocess.run(
        [*args, f"--workers={workers}"], cwd=tmp_path, input=SCRIPT if way == "stdin" else "", text=True,
        capture_output=True, timeout=patience(75),
    )  # fmt: skip
    assert "((9, 7, 832040, 'int', 'object', 3, 6, 'int', True), 16)" in made.stdout, made.stderr


def test_what_comes_back_to_its_process_is_the_same_object() -> None:
    @functools.lru_cache
    def square(x: int) -> int:
        return x * x

    number = NewType("number", int)
    square.note = "kept"  # type: ignore[attr-defined]
    assert square(3) == 9

    back, again, kind = pickle.loads(pickling.dumps((square, square, number)))

    assert back is again is square
    assert kind is number
    assert square.cache_info().currsize == 1


def test_a_cached_function_of_a_module_goes_by_its_name() -> None:
    assert len(pickling.dumps(cached_of_module)) < 200
    assert pickle.loads(pickling.dumps(cached_of_module)) is cached_of_module


@functools.lru_cache
def cached_of_module() -> int:
    return 1
