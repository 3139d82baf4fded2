from __future__ import annotations

import datetime
import decimal
import itertools
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage.errors import ConfigError
from sage.runners.local import LocalRunner
from sage.transforms.dead_letter import DeadLetter
from sage.transforms.io import Located, ReadJsonLines, WriteJsonLines
from sage.transforms.io.json_lines import _JsonLines, _ParseJsonLines
from sage.transforms.io.ranges import END


def test_lines_that_are_no_objects_are_refused_and_the_others_read(tmp_path: Path, outputs_are) -> None:
    path = tmp_path / "a.jsonl"
    deep = b"[" * 200_000
    path.write_bytes(b'{"a": 1}\n\n{"a": \n[1]\n{"a": "\xff"}\nnull\n' + deep + b'\n{"a": "\xc3\xa9"}')
    source = str(path)
    outputs_are(
        ReadJsonLines(source, with_position=True),
        [Located(source, 1, {"a": 1}), Located(source, 8, {"a": "é"})],
        [
            (source, 3, "not JSON: Expecting value (column 7)"),
            (source, 4, "a JSON object is needed, this is an array"),
            (source, 5, "not UTF-8: invalid start byte at byte 7"),
            (source, 6, "a JSON object is needed, this is null"),
            (source, 7, "not JSON that can be read: nested too deeply"),
        ],
    )


def test_many_files_by_glob(tmp_path: Path, outputs_are) -> None:
    for number in range(3):
        (tmp_path / f"{number}.jsonl").write_text(f'{{"n": {number}}}\n')
    outputs_are(ReadJsonLines(str(tmp_path / "*.jsonl")), [{"n": 0}, {"n": 1}, {"n": 2}], [])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read(tmp_path: Path, outputs_are) -> None:
    path = tmp_path / "secret.jsonl"
    path.write_text("{}\n")
    path.chmod(0)
    with pytest.raises(ConfigError, match="may not be read"):
        outputs_are(ReadJsonLines(str(path)), [], [])


def _write(records: list[Any], path: Path, **options: Any) -> list[str]:
    with beam.Pipeline(runner=LocalRunner()) as pipeline:
        pipeline | beam.Create(records) | WriteJsonLines(str(path), **options)
    assert [item.name for item in path.parent.iterdir()] == [path.name], "nothing but the file is left"
    return path.read_text(encoding="utf-8").splitlines()


def test_what_is_written_is_sorted_and_replaces_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "made" / "out.jsonl"
    day = datetime.date(2024, 2, 29)
    assert _write([{"b": 2}, {"a": "é", "on": day}], path) == ['{"a": "é", "on": "2024-02-29"}', '{"b": 2}']
    assert _write([{"c": 3}], path) == ['{"c": 3}']
    assert _write([], path) == []


def test_dead_letters_come_file_by_file_and_line_by_line(tmp_path: Path) -> None:
    letters = [DeadLetter("Read", "why", "", "b", 1), *(DeadLetter("Read", "why", "", "a", n) for n in (10, 9))]
    lines = _write(letters, tmp_path / "dead.jsonl", sort_by=DeadLetter.place)
    assert [(json.loads(line)["source"], json.loads(line)["line"]) for line in lines] == [("a", 9), ("a", 10), ("b", 1)]


def test_a_value_without_a_json_form_is_named(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="has no JSON form"):
        _write([{"a": {1, 2}}], tmp_path / "out.jsonl")
    with pytest.raises(Exception, match=r"NaN and infinite numbers have no JSON form.*The record: {'a': 1, 'b': nan}"):
        _write([{"a": 1, "b": float("nan")}], tmp_path / "out.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_rows_inside_of_rows_keep_their_names(tmp_path: Path) -> None:
    row = beam.Row(shop="north", sales=[beam.Row(item=3, at=(1, 2))], best=beam.Row(item=3, at=None))
    assert [json.loads(line) for line in _write([row], tmp_path / "out.jsonl")] == [
        {"shop": "north", "sales": [{"item": 3, "at": [1, 2]}], "best": {"item": 3, "at": None}}
    ]


def test_a_folder_takes_records_as_they_come(tmp_path: Path) -> None:
    letter = DeadLetter("Read", "why", "", "a", 1)
    with beam.Pipeline(runner=LocalRunner()) as pipeline:
        pipeline | beam.Create([letter, {"a": datetime.date(2024, 2, 29)}]) | WriteJsonLines(str(tmp_path / "out"))
    lines = (tmp_path / "out" / "part-0-1.jsonl").read_text().splitlines()
    assert sorted(lines) == ['{"a": "2024-02-29"}', json.dumps(letter._asdict())]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"a": NaN}', "not JSON: NaN is no JSON value"),
        (b'{"a": [1, -Infinity]}', "not JSON: -Infinity is no JSON value"),
        (b'{"a": Infinity}', "not JSON: Infinity is no JSON value"),
        (b'{"a": 1e999}', "the number 1e999 is too large for a float"),
        (b'{"a": {"b": -1e999}}', "the number -1e999 is too large for a float"),
        (b'{"a": ' + b"9" * 400 + b".0}", "is too large for a float"),
        (b'{"a": ' + b"9" * 5000 + b"}", "an integer has more digits than Python reads (4,300)"),
        (b'{"a": "\\ud800"}', "a text has half of a surrogate pair, which no encoding can hold"),
        (b'{"\\uDfff": 1}', "a text has half of a surrogate pair, which no encoding can hold"),
        (b'{"a": "\xed\xa0\x80"}', "not UTF-8: invalid continuation byte at byte 7"),
        (b'{"a": ' + b"[" * 100_000, "not JSON that can be read: nested too deeply"),
        (b"\xef\xbb\xbf{}", "not JSON: Expecting value (column 1)"),
        (b"{'a': 1}", "not JSON: Expecting property name enclosed in double quotes (column 2)"),
        (b'{"a": 1} {"a": 2}', "not JSON: Extra data (column 10)"),
        (b'{"a": 01}', "not JSON: Expecting ',' delimiter (column 8)"),
        (b"\x00", "not JSON: Expecting value (column 1)"),
        (b"true", "a JSON object is needed, this is a boolean"),
        (b"1", "a JSON object is needed, this is a number"),
        (b'"a"', "a JSON object is needed, this is a string"),
    ],
)
def test_what_is_no_json_is_refused_with_its_reason(tmp_path: Path, line: bytes, reason: str) -> None:
    good, dead = _read(tmp_path, b'{"first": 1}\n' + line + b'\n{"last": 1}')
    assert good == [
        Located(str(tmp_path / "a.jsonl"), 1, {"first": 1}),
        Located(str(tmp_path / "a.jsonl"), 3, {"last": 1}),
    ]
    (letter,) = dead
    assert (letter.step, letter.source, letter.line) == ("ReadJsonLines", str(tmp_path / "a.jsonl"), 2)
    assert reason in letter.reason


def test_what_is_json_is_read_as_it_is(tmp_path: Path) -> None:
    line = b'\xef\xbb\xbf{"a": 1, "a": 2, "big": 123456789012345678901234567890, "e": 1e3, "s": "\\ud83d\\ude00"}'
    good, dead = _read(tmp_path, line + b"\r\n \t\r\n\n")
    assert dead == []
    assert [record.value for record in good] == [
        {"a": 2, "big": 123456789012345678901234567890, "e": 1000.0, "s": "\U0001f600"}
    ]


@given(st.lists(st.sampled_from([b'{"a": 1}', b"", b"{", b'{"b": "x"}', b"[1]", b"\xff"]), max_size=8), st.data())
def test_ranges_of_a_file_have_each_line_once(tmp_path_factory, lines: list[bytes], data: Any) -> None:
    content = b"\n".join(lines)
    cuts = data.draw(st.lists(st.integers(1, max(1, len(content) + 2)), max_size=4, unique=True).map(sorted))
    folder = tmp_path_factory.mktemp("jsonl")
    assert _read(folder, content, cuts) == _read(folder, content)


def _read(folder: Path, content: bytes, cuts: Sequence[int] = ()) -> tuple[list[Any], list[Any]]:
    """What the step of the reader yields for the ranges of a file, without a runner."""
    path = folder / "a.jsonl"
    path.write_bytes(content)
    step = _ParseJsonLines(with_position=True)
    step.setup()
    good: list[Any] = []
    dead: list[Any] = []
    for start, stop in itertools.pairwise([0, *cuts, END]):
        for found in step.process((str(path), start, stop)):
            if isinstance(found, list):
                good += found
            else:
                dead.append(found.value)
    return good, dead


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ({"a": 1, "b": decimal.Decimal("1.5")}, r"column 'b': Decimal Decimal\('1.5'\) has no JSON form"),
        ({"a": 1, "b": b"x"}, r"column 'b': bytes b'x' has no JSON form"),
        ({"a": 1, "b": [1, {"c": float("inf")}]}, r"column 'b': NaN and infinite numbers have no JSON form"),
        ({"a": np.float32("nan")}, r"column 'a': NaN and infinite numbers have no JSON form"),
        ({"a": np.float64("nan")}, r"column 'a': NaN and infinite numbers have no JSON form"),
        ({"a": np.datetime64("2024-01-01")}, r"column 'a': datetime64 .* has no JSON form"),
        ({"a": np.array([1, 2])}, r"column 'a': ndarray .* has no JSON form"),
        ({"a": 1j}, r"column 'a': complex 1j has no JSON form"),
        ({1: "x"}, r"column 1: a name is int 1, and JSON has names of text only.*The record: {1: 'x'}"),
        ({"a": {None: 1}}, r"column 'a': a name is NoneType None"),
        ({"a": [{True: 1}]}, r"column 'a': a name is bool True"),
        ({"a": 10**5000}, r"column 'a': an integer has more digits than Python writes \(4,300\)"),
        ({"a": "\ud800"}, r"cannot be written as UTF-8"),
    ],
)
def test_a_value_that_json_cannot_say_is_named_with_its_column_and_record(
    tmp_path: Path, record: Any, told: str
) -> None:
    for path in (tmp_path / "out.jsonl", tmp_path / "out"):
        with pytest.raises(Exception, match=rf"(?s){told}.*Write"), beam.Pipeline(runner=LocalRunner()) as pipeline:
            # Made in the pipeline: some of the records cannot be given to Create.
            pipeline | beam.Create([0]) | beam.Map(lambda _: record) | "Write" >> WriteJsonLines(str(path))


def test_a_value_that_holds_itself_is_named(tmp_path: Path) -> None:
    record: dict[str, Any] = {"ok": 1}
    record["loop"] = [record]
    with pytest.raises(ValueError, match=r"column 'loop': .*nested too deeply, or holds itself"):
        _JsonLines().line(record)


def test_scalars_of_numpy_and_pandas_are_written_as_their_values() -> None:
    record = {
        "i": np.int64(-3), "u": np.uint8(3), "f": np.float32(0.5), "d": np.float64(0.1), "b": np.bool_(True),
        "s": np.str_("x"), np.str_("k"): None,
        "deep": [{"n": np.int32(1)}], "time": datetime.time(1, 2),
    }  # fmt: skip
    assert json.loads(_JsonLines().line(record)) == {
        "i": -3, "u": 3, "f": 0.5, "d": 0.1, "b": True, "s": "x", "k": None,
        "deep": [{"n": 1}], "time": "01:02:00",
    }  # fmt: skip


def test_times_of_pandas_are_written_and_its_missing_values_named() -> None:
    pandas = pytest.importorskip("pandas")
    assert _JsonLines().line({"t": pandas.Timestamp("2024-02-29T12:00Z")}) == '{"t": "2024-02-29T12:00:00+00:00"}'
    for missing in (pandas.NaT, pandas.NA):
        with pytest.raises(TypeError, match=r"column 'a': .* has no JSON form"):
            _JsonLines().line({"a": missing})
