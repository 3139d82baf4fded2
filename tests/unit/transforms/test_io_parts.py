from __future__ import annotations

import gzip
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.transforms.window import TimestampedValue

from sage.errors import ConfigError, DataLoss
from sage.runners.local import LocalRunner
from sage.sources import ReadStream
from sage.transactions import SinkContext, TransactionalDoFn
from sage.transforms.io import WriteJsonLines, WriteText
from sage.transforms.io.storage import Folder
from tests.models.two_phase import Checkpoint, Driver, sink_of
from tests.recovery.streams import Numbers


def _seen(folder: Path) -> dict[str, list[str]]:
    """The files of a folder that a reader sees, and their lines."""
    paths = [path for path in folder.rglob("*") if path.is_file() and ".sage-" not in str(path)]
    return {path.relative_to(folder).as_posix(): path.read_text().splitlines() for path in sorted(paths)}


def _lines(folder: Path) -> list[str]:
    return sorted(line for lines in _seen(folder).values() for line in lines)


def _text(folder: Path, **parts: Any) -> TransactionalDoFn:
    return sink_of(WriteText(str(folder), **{"existing": "refuse", **parts}))


def _recovered(sink: TransactionalDoFn, prepared: Iterable[Any] = (), subtask: int = 0, **how: Any) -> Any:
    sink.manage()
    sink.setup()
    context = {"job": "a-job", "step": "Write", "subtask": subtask, "earlier": (subtask,), **how}
    sink.recover(SinkContext(**context), tuple(prepared))
    return sink


def _epoch(sink: Any, number: int, *elements: Any) -> Any:
    for element in elements:
        sink.process(element)
    return sink.prepare(number)


def _batch(elements: Iterable[Any], sink: beam.PTransform) -> None:
    with beam.Pipeline(runner=LocalRunner()) as pipeline:
        pipeline | beam.Create(list(elements)) | "Write" >> sink


# -- what is written ---------------------------------------------------------------------------------------------------


def test_each_checkpoint_has_its_set_of_files(tmp_path: Path) -> None:
    out = tmp_path / "out"
    Driver(_text(out), tmp_path / "checkpoint", every=2, subtasks=2).run([*"abcde"])
    assert _seen(out) == {
        "part-0-1.txt": ["a"], "part-0-2.txt": ["c"], "part-0-3.txt": ["e"],
        "part-1-1.txt": ["b"], "part-1-2.txt": ["d"],
    }  # fmt: skip


def test_nothing_is_seen_before_it_is_committed(tmp_path: Path) -> None:
    sink = _recovered(_text(tmp_path))
    handle = _epoch(sink, 1, "a")
    sink.process("b")
    assert _seen(tmp_path) == {}
    sink.commit(handle)
    assert _seen(tmp_path) == {"part-0-1.txt": ["a"]}
    sink.teardown()
    assert not list(tmp_path.rglob("*.tmp"))


def test_an_epoch_without_elements_makes_no_file(tmp_path: Path) -> None:
    sink = _recovered(_text(tmp_path))
    sink.commit(_epoch(sink, 1))
    assert _seen(tmp_path) == {}


def test_a_full_file_is_followed_by_another(tmp_path: Path) -> None:
    sink = _recovered(_text(tmp_path, max_file_bytes=4))
    sink.commit(_epoch(sink, 7, "a", "b", "c", "long", "d"))
    assert _seen(tmp_path) == {
        "part-0-7.txt": ["a", "b"], "part-0-7-1.txt": ["c", "long"], "part-0-7-2.txt": ["d"]
    }  # fmt: skip


def test_elements_go_where_a_function_of_them_says(tmp_path: Path) -> None:
    sink = _recovered(_text(tmp_path, destination=lambda text: f"first={text[0]}/length={len(text)}" if text else ""))
    sink.commit(_epoch(sink, 1, "ab", "", "ac", "b"))
    assert _seen(tmp_path) == {
        "part-0-1.txt": [""],
        "first=a/length=2/part-0-1.txt": ["ab", "ac"],
        "first=b/length=1/part-0-1.txt": ["b"],
    }


@pytest.mark.parametrize("name", ["/etc", "../up", "a//b", ".hidden", "a/.sage-x", 7, None])
def test_a_destination_outside_of_the_folder_is_refused(tmp_path: Path, name: Any) -> None:
    sink = _recovered(_text(tmp_path, destination=lambda _: name))
    with pytest.raises(ConfigError, match="destination"):
        sink.process("a")


def test_elements_go_where_their_time_says(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with beam.Pipeline(runner=LocalRunner()) as pipeline:
        times = pipeline | beam.Create([TimestampedValue("a", 0), TimestampedValue("b", 86_400 + 3600)])
        (
            times
            | beam.Map(lambda text, t=beam.DoFn.TimestampParam: TimestampedValue(text, t))
            | WriteText(str(out), destination="day=%Y-%m-%d/hour=%H")
        )
    assert _seen(out) == {
        "day=1970-01-01/hour=00/part-0-1.txt": ["a"],
        "day=1970-01-02/hour=01/part-0-1.txt": ["b"],
    }


def test_elements_without_a_time_cannot_go_by_it(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="is filled with event times, and an element has"):
        _batch(["a"], WriteText(str(tmp_path / "out"), destination="%Y"))


def test_names_tell_the_compression(tmp_path: Path) -> None:
    out = tmp_path / "out"
    _batch([{"a": 1}], WriteJsonLines(str(out), suffix=".jsonl.gz"))
    assert json.loads(gzip.decompress((out / "part-0-1.jsonl.gz").read_bytes())) == {"a": 1}


def test_a_path_on_a_file_system_that_fsspec_knows() -> None:
    folder = Folder("memory://written-by-a-test/out")
    _batch(["a", "b"], WriteText(folder.path))
    assert folder.read("part-0-1.txt") == b"a\nb\n"
    assert [name for name in folder.files() if not name.startswith(".sage-")] == ["part-0-1.txt"]


# -- who the files belong to -------------------------------------------------------------------------------------------


def test_a_batch_job_that_runs_again_replaces_what_it_wrote(tmp_path: Path) -> None:
    out = tmp_path / "out"
    _batch("ab", WriteText(str(out), max_file_bytes=1))
    (out / "notes.md").write_text("by hand")
    assert len(_seen(out)) == 3
    _batch("c", WriteText(str(out), max_file_bytes=1))
    assert _seen(out) == {"notes.md": ["by hand"], "part-0-1.txt": ["c"]}
    _batch("", WriteText(str(out)))
    assert _seen(out) == {"notes.md": ["by hand"]}


def test_what_is_replaced_stays_until_the_new_files_are_there(tmp_path: Path) -> None:
    Driver(_text(tmp_path / "out"), tmp_path / "first", subtasks=3).run([*"abc"])
    again = [_recovered(_text(tmp_path / "out", existing="replace"), subtask=n, subtasks=2) for n in (0, 1)]
    handles = [_epoch(sink, 1, text) for sink, text in zip(again, "xy", strict=True)]
    assert _lines(tmp_path / "out") == ["a", "b", "c"]
    for sink, handle in zip(again, handles, strict=True):
        sink.commit(handle)
        sink.commit(handle)
    assert _seen(tmp_path / "out") == {"part-0-1.txt": ["x"], "part-1-1.txt": ["y"]}


def test_a_failing_batch_job_leaves_what_was_there(tmp_path: Path) -> None:
    out = tmp_path / "out"
    _batch("ab", WriteText(str(out)))
    with pytest.raises(Exception, match="takes str, not int"):
        _batch(["c", 1], WriteText(str(out)))
    assert _lines(out) == ["a", "b"]


def test_a_folder_with_files_of_an_earlier_run_is_refused(tmp_path: Path) -> None:
    Driver(_text(tmp_path / "out"), tmp_path / "first").run([*"ab"])
    with pytest.raises(ConfigError, match=r"files of an earlier run, such as 'part-0-1\.txt'.*existing='replace'"):
        _recovered(_text(tmp_path / "out"))


@pytest.mark.parametrize("existing", ["refuse", "replace"])
@pytest.mark.parametrize("name", ["mine.txt", "part-0-1.txt", "deep/part-00000.txt"])
def test_a_folder_with_files_of_others_is_refused(tmp_path: Path, existing: str, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("by hand")
    for _ in range(2):
        with pytest.raises(ConfigError, match="files that this step did not write"):
            _recovered(_text(tmp_path, existing=existing))
    assert _seen(tmp_path) == {name: ["by hand"]}


def test_a_folder_of_another_step_is_refused(tmp_path: Path) -> None:
    _recovered(_text(tmp_path), step="Other")
    with pytest.raises(ConfigError, match="belongs to step 'Other' of job 'a-job'"):
        _recovered(_text(tmp_path, existing="replace"))


def test_appended_files_have_names_of_their_own(tmp_path: Path) -> None:
    Driver(_text(tmp_path / "out"), tmp_path / "first").run([*"ab"])
    for run, text in enumerate("cd"):
        Driver(_text(tmp_path / "out", existing="append"), tmp_path / str(run), step=f"step {run}").run([text])
    assert _lines(tmp_path / "out") == ["a", "b", "c", "d"]


def test_a_job_that_appends_goes_on_with_its_names(tmp_path: Path) -> None:
    driver = Driver(_text(tmp_path / "out", existing="append"), tmp_path / "checkpoint", every=1)
    driver.run([*"abc"], until=2)
    driver.run([*"abc"])
    names = [name.split("-") for name in _seen(tmp_path / "out")]
    assert len({label for _, label, *_ in names}) == 1
    assert [epoch for *_, epoch in names] == ["1.txt", "2.txt", "3.txt"]


def test_on_a_runner_that_knows_no_checkpoints_each_bundle_is_committed(tmp_path: Path) -> None:
    (tmp_path / "part-0-1.txt").write_text("old\n")
    workers = [_text(tmp_path) for _ in range(2)]
    for sink in workers:
        sink.setup()
        for bundle in ("ab", "c"):
            sink.start_bundle()
            for text in bundle:
                sink.process(text)
            sink.finish_bundle()
    for sink in workers:
        sink.teardown()
    assert _lines(tmp_path) == ["a", "a", "b", "b", "c", "c", "old"]
    assert len(_seen(tmp_path)) == 5
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


# -- after a crash -----------------------------------------------------------------------------------------------------


def test_what_a_checkpoint_holds_is_committed_and_the_rest_removed(tmp_path: Path) -> None:
    crashed = _recovered(_text(tmp_path))
    held = _epoch(crashed, 1, "a")
    given_up = _epoch(crashed, 2, "b")
    crashed.process("c")
    other = _recovered(_text(tmp_path, existing="append"), step="Other")
    other.process("mine")
    _recovered(_text(tmp_path), [held])
    assert _seen(tmp_path) == {"part-0-1.txt": ["a"]}
    assert [path.parent.name for path in tmp_path.rglob("*.tmp")] == [Path(_hidden_of(other)).parent.name]
    with pytest.raises(DataLoss, match=r"that the checkpoint holds are gone, such as 'part-0-2\.txt'"):
        _recovered(_text(tmp_path), [given_up])


def test_going_on_into_another_folder_says_what_stays_behind(tmp_path: Path) -> None:
    held = _epoch(_recovered(_text(tmp_path / "one")), 1, "a")
    with pytest.raises(DataLoss, match=r"other'(.|\n)*another output folder, and they are in the one it had"):
        _recovered(_text(tmp_path / "other"), [held])


def test_what_is_published_is_published_also_where_its_hidden_folder_is_gone(tmp_path: Path) -> None:
    handle = _epoch(crashed := _recovered(_text(tmp_path)), 1, "a")
    crashed.commit(handle)
    shutil.rmtree(tmp_path / handle.home)
    _recovered(_text(tmp_path), [handle])
    assert _seen(tmp_path) == {"part-0-1.txt": ["a"]}


def _hidden_of(sink: Any) -> str:
    (hidden, _) = sink.prepare(9).files[0]
    return str(hidden)


def test_files_that_a_reader_took_away_are_not_lost(tmp_path: Path) -> None:
    sink = _recovered(_text(tmp_path))
    handle = _epoch(sink, 1, "a")
    sink.commit(handle)
    os.remove(tmp_path / "part-0-1.txt")
    sink.commit(handle)
    _recovered(_text(tmp_path), [handle])
    assert _seen(tmp_path) == {}


def test_going_on_from_an_older_checkpoint_takes_back_what_came_after(tmp_path: Path) -> None:
    driver = Driver(_text(tmp_path / "out"), tmp_path / "checkpoint", every=1)
    elements = [*"abcd"]
    driver.run(elements, until=2)
    older = (tmp_path / "checkpoint").read_bytes()
    driver.run(elements)
    assert _lines(tmp_path / "out") == elements
    (tmp_path / "checkpoint").write_bytes(older)
    driver.start(driver.load())
    assert _lines(tmp_path / "out") == elements
    driver.run(elements)
    assert _lines(tmp_path / "out") == elements


def test_what_came_after_an_older_checkpoint_stays_until_the_first_that_is_made_anew(tmp_path: Path) -> None:
    sink = _recovered(_text(tmp_path))
    first, second, third = (_epoch(sink, number, element) for number, element in enumerate("abc", 1))
    for handle in (first, second, third):
        sink.commit(handle)
    fell = _recovered(_text(tmp_path), [first])
    fell.prepare(4)
    assert _lines(tmp_path) == ["a", "b", "c"]

    went_on = _recovered(_text(tmp_path), [third])
    went_on.commit(_epoch(went_on, 5, "d"))
    assert _lines(tmp_path) == ["a", "b", "c", "d"]
    assert not list(tmp_path.rglob("stale-*"))

    again = _recovered(_text(tmp_path), [second])
    again.commit(_epoch(again, 6, "C"))
    assert _lines(tmp_path) == ["C", "a", "b"]
    with pytest.raises(DataLoss, match=r"that the checkpoint holds are gone, such as 'part-0-3\.txt'"):
        _recovered(_text(tmp_path), [third])


def test_a_job_that_goes_on_from_anothers_savepoint_writes_beside_it(tmp_path: Path) -> None:
    one = Driver(_text(tmp_path / "out"), tmp_path / "checkpoint", every=1)
    one.run([*"abc"], until=1)
    savepoint = one.load()
    other = Driver(_text(tmp_path / "out"), tmp_path / "other", every=1, job="other")
    other.save(savepoint)
    other.run([*"aBC"])
    one.run([*"abc"])
    assert _lines(tmp_path / "out") == sorted("abcBC")


def test_leftovers_of_subtasks_that_are_no_more_go_with_the_first_checkpoint(tmp_path: Path) -> None:
    driver = Driver(_text(tmp_path / "out"), tmp_path / "checkpoint", subtasks=3)
    for sink in driver.start(Checkpoint()):
        sink.process("lost")
    driver.subtasks = 1
    driver.run([*"ab"])
    assert _lines(tmp_path / "out") == ["a", "b"]
    assert not list((tmp_path / "out").rglob("*.tmp"))


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "how", "why"),
    [
        ("a.txt", {"destination": str}, "'a.txt' is one file, as its ending says, and destination is for folders"),
        ("a.txt", {"existing": "append"}, "write to a folder with 'a' or 'a.txt/'"),
        ("a", {"sort_by": str}, "sort_by is for one file"),
        ("a", {"existing": "keep"}, "existing='keep' is not one of 'refuse', 'replace', 'append'"),
        ("a", {"max_file_bytes": 0}, "must be above zero"),
        ("a", {"max_file_bytes": "much"}, "is not a size in bytes"),
        ("a", {"suffix": "txt"}, "it begins with a dot"),
    ],
)
def test_arguments_that_do_not_go_together(path: str, how: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        WriteText(path, **how)


def test_one_file_of_a_stream_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"this input has no end; write to a folder, as 'a\.txt/'"):
        beam.Pipeline() | ReadStream(Numbers(1)) | WriteText("a.txt")


def test_a_kind_of_path_that_nothing_installed_knows() -> None:
    with pytest.raises(ConfigError, match="'nosuch://bucket/out' cannot be written to"):
        Folder("nosuch://bucket/out")


def test_a_full_disk_says_where_and_what_to_do() -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no device that is always full")
    folder = Folder("/dev")
    file = folder.create("full")
    file.write(b"a")
    with pytest.raises(OSError, match=r"cannot write to '/dev/full': No space left on device \(the disk is full; free"):
        folder.seal("full", file)


def test_a_file_where_a_folder_is_needed(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("by hand")
    with pytest.raises(OSError, match=r"out.*\((a file is where a folder is needed|a part of the path is a file)"):
        _recovered(_text(tmp_path / "out"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_to(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OSError, match=r"Permission denied \(this user may not write there"):
        _recovered(_text(tmp_path / "out"))
