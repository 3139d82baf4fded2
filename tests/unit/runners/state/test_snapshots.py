"""Where checkpoints live: what is durable comes back, what is torn is named, what nobody needs goes."""

from __future__ import annotations

import multiprocessing
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from sage.errors import CheckpointError, ConfigError
from sage.runners.engine.checkpoint.protocol import Kind, Receipt
from sage.runners.engine.checkpoint.snapshot import RootSnapshot, StageSnapshot
from sage.runners.engine.core.key_groups import KEY_GROUPS, worker_of
from sage.runners.state.manifests import Manifest
from sage.runners.state.objects import LocalObjectStore, objects_at
from sage.runners.state.restoring import verified
from sage.runners.state.snapshots import CheckpointStore

PLAN = {"stages": {}}


def whole(keyed: bytes | None = None, **parts: Any) -> StageSnapshot:
    watermark, sinks = parts.pop("watermark", 0), parts.pop("sinks", {})
    return StageSnapshot(watermark, RootSnapshot(keyed=keyed, **parts), sinks)


def changes(keyed: bytes | None) -> StageSnapshot:
    return whole(keyed, whole=False)


@pytest.fixture(params=["local", "remote"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place for checkpoints on each kind of storage."""
    if request.param == "local":
        return str(tmp_path / "checkpoints")
    return f"memory://{uuid.uuid4().hex}"


class Job:
    """A driver and its workers, as far as storage sees them."""

    def __init__(self, path: str, name: str = "job", workers: int = 1) -> None:
        self.driver = CheckpointStore(path, name)
        self.driver.acquire()
        run = self.driver.new_run()
        self.workers = [CheckpointStore(path, name, run) for _ in range(workers)]

    def take(
        self, epoch: int, *parts: Mapping[str, StageSnapshot], kind: Kind = Kind.PERIODIC, name: str = ""
    ) -> Manifest:
        return self.driver.publish(epoch, self.store(epoch, *parts), PLAN, kind, name)

    def store(self, epoch: int, *parts: Mapping[str, StageSnapshot]) -> dict[int, Receipt]:
        stores = enumerate(zip(self.workers, parts, strict=True))
        return {number: store.write(epoch, number, part) for number, (store, part) in stores}


@pytest.fixture
def job(path: str) -> Iterator[Job]:
    made = Job(path)
    yield made
    made.driver.release()


def keyed(manifest: Manifest, stage: str = "s") -> list[list[bytes]]:
    state = CheckpointStore("unused", "job").load(manifest, 0, 1, [stage], "unused")[stage]
    return [list(chunks) for chunks in state.root.keyed]


def files_of(job: Job) -> list[str]:
    return job.driver._objects.names()


def test_what_is_published_comes_back(job: Job) -> None:
    snapshot = whole(b"k", spread=["a", "b"], shared=b"s", watermark=7, sinks={"Write": ["handle"]})
    job.take(1, {"s": snapshot})
    manifest = job.driver.latest()
    assert manifest is not None
    state = job.driver.load(manifest, 0, 1, ["s"], "unused")["s"]
    assert (state.watermark, state.earlier, dict(state.sinks)) == (7, (0,), {"Write": ["handle"]})
    root = state.root
    assert (root.keyed, root.spread, root.shared, root.mine) == ([[b"k"]], ["a", "b"], b"s", None)


def test_there_is_nothing_at_first(path: str) -> None:
    assert CheckpointStore(path, "job").latest() is None
    assert CheckpointStore(path, "job").last_epoch() == 0


def test_a_chain_goes_from_the_last_whole_part_to_the_last(job: Job) -> None:
    assert keyed(job.take(1, {"s": whole(b"1")})) == [[b"1"]]
    assert keyed(job.take(2, {"s": changes(b"2")})) == [[b"1", b"2"]]
    assert keyed(job.take(3, {"s": changes(None)})) == [[b"1", b"2"]]
    assert keyed(job.take(5, {"s": changes(b"5")})) == [[b"1", b"2", b"5"]]
    assert keyed(job.take(6, {"s": whole(b"6")})) == [[b"6"]]


def test_a_stage_that_gives_all_it_has_begins_its_own_chain_anew(job: Job) -> None:
    job.take(1, {"s": whole(b"1"), "t": whole(b"a")})
    manifest = job.take(2, {"s": whole(b"2"), "t": changes(b"b")})
    assert keyed(manifest, "s") == [[b"2"]]
    assert keyed(manifest, "t") == [[b"a", b"b"]]


def test_a_checkpoint_without_a_manifest_is_none_and_is_cleaned_away(job: Job, path: str) -> None:
    job.take(1, {"s": whole(b"1")})
    job.store(2, {"s": whole(b"2")})
    assert job.driver.latest().epoch == 1  # type: ignore[union-attr]
    assert job.driver.last_epoch() == 2
    job.driver.release()
    Job(path).driver.release()
    assert [name for name in files_of(job) if name.startswith("chk-00000002")] == []
    assert keyed(job.driver.latest()) == [[b"1"]]  # type: ignore[arg-type]


def test_what_is_not_kept_goes_and_what_is_still_named_stays(job: Job) -> None:
    for epoch, snapshot in enumerate([whole(b"1"), changes(b"2"), whole(b"3"), changes(b"4")], 1):
        job.take(epoch, {"s": snapshot})
        job.driver.retain(2)
        if epoch == 3:
            assert {name.split("/")[0] for name in files_of(job) if name.startswith("chk")} == {
                "chk-00000001", "chk-00000002", "chk-00000003"
            }  # fmt: skip
    assert {name.split("/")[0] for name in files_of(job) if name.startswith("chk")} == {"chk-00000003", "chk-00000004"}
    assert keyed(job.driver.latest()) == [[b"3", b"4"]]  # type: ignore[arg-type]


def test_as_many_are_kept_as_asked_for_and_what_was_given_up_goes_now_and_then(job: Job) -> None:
    for epoch in range(1, 40):
        if epoch == 20:
            job.store(epoch, {"s": whole(b"given up")})
            continue
        job.take(epoch, {"s": whole(b"later")})
        job.driver.retain(5)
        assert len([name for name in files_of(job) if name.endswith("MANIFEST.json")]) == min(epoch, 5)
    kept = {name.split("/")[0] for name in files_of(job) if name.startswith("chk")}
    assert kept == {f"chk-{epoch:08}" for epoch in range(35, 40)}


def test_a_file_is_stored_once_and_stays_as_long_as_a_kept_checkpoint_names_it(job: Job, tmp_path: Path) -> None:
    old, new = tmp_path / "old.sst", tmp_path / "new.sst"
    old.write_bytes(b"old")
    new.write_bytes(b"new")
    job.take(1, {"s": whole(files={"old.sst": str(old)})})
    job.take(2, {"s": whole(files={"old.sst": str(old), "new.sst": str(new)})})
    job.driver.retain(1)
    assert [name.rsplit("/")[-1] for name in files_of(job) if name.endswith(".sst")] == ["old.sst", "new.sst"]
    manifest = job.driver.latest()
    assert manifest is not None
    state = job.driver.load(manifest, 0, 1, ["s"], str(tmp_path / "scratch"))["s"]
    assert {name: Path(path).read_bytes() for name, path in state.root.files[0].items()} == {
        "old.sst": b"old", "new.sst": b"new"
    }  # fmt: skip
    Path(state.root.files[0]["old.sst"]).write_bytes(b"changed by its user")
    job.take(3, {"s": whole(files={"new.sst": str(new)})})
    job.driver.retain(1)
    assert [name.rsplit("/")[-1] for name in files_of(job) if name.endswith(".sst")] == ["new.sst"]
    assert old.read_bytes() == b"old"


def test_files_that_a_worker_was_given_back_are_not_stored_again(job: Job, path: str, tmp_path: Path) -> None:
    old, new = tmp_path / "old.sst", tmp_path / "new.sst"
    old.write_bytes(b"old")
    new.write_bytes(b"new")
    manifest = job.take(1, {"s": whole(files={"old.sst": str(old)})})
    later = CheckpointStore(path, "job", job.driver.new_run())
    later.remember(manifest, 0, 1)
    receipt = later.write(2, 0, {"s": whole(files={"old.sst": str(old), "new.sst": str(new)})})
    job.driver.publish(2, {0: receipt}, PLAN, Kind.PERIODIC)
    job.driver.retain(1)
    assert [name.split("/")[0] for name in files_of(job) if name.endswith(".sst")] == ["chk-00000001", "chk-00000002"]
    last = job.driver.latest()
    assert last is not None
    state = job.driver.load(last, 0, 1, ["s"], str(tmp_path / "scratch"))["s"]
    assert [Path(path).read_bytes() for _, path in sorted(state.root.files[0].items())] == [b"new", b"old"]


def test_a_savepoint_outlives_the_checkpoints_and_can_be_moved(tmp_path: Path) -> None:
    job = Job(str(tmp_path / "checkpoints"))
    file = tmp_path / "a.sst"
    file.write_bytes(b"a")
    job.take(1, {"s": whole(b"0", files={"a.sst": str(file)})})
    savepoint = job.take(2, {"s": whole(b"1", files={"a.sst": str(file)})}, kind=Kind.SAVEPOINT, name="before/upgrade")
    assert [known.name for known in job.driver.savepoints()] == ["before/upgrade"]
    assert job.driver.latest().epoch == 2  # type: ignore[union-attr] # its sinks have committed, so it is the last
    for epoch in (3, 4):
        job.take(epoch, {"s": whole(b"later")})
        job.driver.retain(1)
    moved = Path(savepoint.url).rename(tmp_path / "elsewhere")
    other = CheckpointStore(str(tmp_path / "others"), "job")
    found = other.choose(str(moved))
    assert found is not None
    state = other.load(found, 0, 1, ["s"], str(tmp_path / "scratch"))["s"]
    assert state.root.keyed == [[b"1"]]
    assert Path(state.root.files[0]["a.sst"]).read_bytes() == b"a"


def test_a_savepoint_of_a_name_that_is_taken_is_refused_and_nothing_is_durable(job: Job) -> None:
    job.take(1, {"s": whole(b"1")}, kind=Kind.SAVEPOINT, name="x")
    with pytest.raises(CheckpointError, match="a savepoint 'x' of the job 'job' already"):
        job.take(2, {"s": whole(b"2")}, kind=Kind.SAVEPOINT, name="x")
    assert job.driver.latest().epoch == 1  # type: ignore[union-attr]


def test_jobs_that_share_a_path_do_not_mix(path: str) -> None:
    one, two = Job(path, "one"), Job(path, "one/two")
    one.take(1, {"s": whole(b"1")})
    two.take(2, {"s": whole(b"2")})
    assert keyed(one.driver.latest()) == [[b"1"]]  # type: ignore[arg-type]
    assert keyed(two.driver.latest()) == [[b"2"]]  # type: ignore[arg-type]
    two.driver.retain(1)
    assert keyed(one.driver.latest()) == [[b"1"]]  # type: ignore[arg-type]
    one.driver.release()
    two.driver.release()


# A different number of workers.


@pytest.mark.parametrize(("before", "now"), [(1, 1), (1, 3), (2, 3), (3, 2), (4, 1), (3, 3)])
def test_every_key_group_item_and_handle_goes_to_one_worker(path: str, before: int, now: int) -> None:
    job = Job(path, workers=before)
    manifest = job.take(
        1,
        *(
            {"s": whole(b"k%d" % w, spread=[(w, 0), (w, 1)], shared=b"v", watermark=10 + w, sinks={"W": [f"h{w}"]})}
            for w in range(before)
        ),
    )
    states = [job.driver.load(manifest, w, now, ["s"], "unused")["s"] for w in range(now)]
    for group in range(KEY_GROUPS):
        owner, chunk = worker_of(group, now), b"k%d" % worker_of(group, before)
        holding = [
            w for w, s in enumerate(states) if [chunk] in s.root.keyed and (s.root.mine is None or s.root.mine(group))
        ]
        assert holding == [owner]
    assert sorted(item for s in states for item in s.root.spread) == [(w, i) for w in range(before) for i in (0, 1)]
    assert sorted(i for s in states for i in s.earlier) == list(range(before))
    assert sorted(h for s in states for h in s.sinks.get("W", ())) == [f"h{w}" for w in range(before)]
    assert {s.root.shared for s in states} == {b"v"}
    assert [s.watermark for s in states] == ([10 + w for w in range(before)] if before == now else [10] * now)
    job.driver.release()


def test_a_sink_that_moved_to_another_stage_finds_what_it_prepared(job: Job) -> None:
    manifest = job.take(1, {"s": whole(b"k", sinks={"Write": ["handle"]})})
    state = job.driver.load(manifest, 0, 1, ["new"], "unused")["new"]
    assert state.sinks["Write"] == ["handle"]
    assert state.root.keyed == [[]]


# What goes wrong.


def broken(job: Job, epoch: int, ending: str, data: bytes | None) -> str:
    """Makes a file of a checkpoint what ``data`` is; None for gone."""
    objects = job.driver._objects
    (name,) = [n for n in objects.names() if n.startswith(f"chk-{epoch:08}") and n.endswith(ending)]
    if data is None:
        objects.remove(name)
    else:
        objects.put(name, data)
    return name


@pytest.mark.parametrize("ending", [".bin", "MANIFEST.json"])
@pytest.mark.parametrize("data", [b"", b"{}", b"torn"])
def test_a_torn_file_is_named_with_the_newest_older_checkpoint_that_is_whole(
    job: Job, ending: str, data: bytes
) -> None:
    for epoch in (1, 2, 3):
        job.take(epoch, {"s": whole(b"%d" % epoch)})
    broken(job, 2, ".bin", b"also torn")
    name = broken(job, 3, ending, data)
    with pytest.raises(CheckpointError) as caught:
        job.driver.latest()
    assert name in str(caught.value)
    option = f"--restore_from={job.driver._objects.url}/chk-00000001"
    assert option in str(caught.value)
    older = job.driver.choose(option.partition("=")[2])
    assert keyed(older) == [[b"1"]]  # type: ignore[arg-type]


def test_a_file_that_is_missing_is_named(job: Job) -> None:
    job.take(1, {"s": whole(b"1")})
    name = broken(job, 1, ".bin", None)
    with pytest.raises(CheckpointError, match=rf"{name} is missing\. There is no older one"):
        job.driver.latest()


def test_a_byte_that_changed_is_noticed_before_it_is_used(job: Job) -> None:
    manifest = job.take(1, {"s": whole(b"12345")})
    name = broken(job, 1, ".bin", b"x" * manifest.size)
    with pytest.raises(CheckpointError, match=rf"{name} is not what was written"):
        job.driver.load(manifest, 0, 1, ["s"], "unused")
    with pytest.raises(CheckpointError, match=rf"{name} is not what was written"):
        verified(manifest)


def test_a_path_around_checkpoints_names_them(job: Job, path: str) -> None:
    taken = [job.take(epoch, {"s": whole(b"1")}).url for epoch in range(1, 8)]
    for around in (path, f"{path}/job"):
        with pytest.raises(CheckpointError, match=r"below it there are .* and 2 others: name one") as caught:
            job.driver.choose(around)
        assert [url for url in taken if url in str(caught.value)] == taken[-5:]


def test_a_path_without_a_checkpoint_is_said_to_have_none(path: str) -> None:
    with pytest.raises(CheckpointError, match=r"there is no checkpoint or savepoint in .*nowhere"):
        CheckpointStore(path, "job").choose(f"{path}/nowhere")


def test_a_folder_that_cannot_be_written_is_an_error_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match=r"cannot be written to .*--checkpoint_dir"):
        CheckpointStore(str(tmp_path / "file"), "job").acquire()


def test_a_file_system_that_nobody_knows_is_an_error() -> None:
    with pytest.raises(ConfigError, match="cannot be kept at nosuch://x"):
        objects_at("nosuch://x")


# Which checkpoint a job begins from.


def test_a_job_that_began_from_a_savepoint_goes_on_from_its_own_checkpoints(job: Job, path: str) -> None:
    savepoint = job.take(1, {"s": whole(b"1")}, kind=Kind.SAVEPOINT, name="x")
    job.take(2, {"s": whole(b"2")})
    assert job.driver.choose(savepoint.url).epoch == 1  # type: ignore[union-attr]
    job.driver.new_run()
    job.take(3, {"s": whole(b"3")})
    assert job.driver.choose(savepoint.url).epoch == 3  # type: ignore[union-attr]
    job.driver.release()
    again = CheckpointStore(path, "job")
    assert again.choose(savepoint.url).epoch == 3  # type: ignore[union-attr]
    assert again.choose(None).epoch == 3  # type: ignore[union-attr]
    assert again.origin == savepoint.url


# Two drivers.


def _hold(path: str, held: Any, over: Any) -> None:
    store = CheckpointStore(path, "job")
    store.acquire()
    held.set()
    over.wait()
    store.release()


def test_a_second_driver_is_refused_while_the_first_lives_and_not_after_it_was_killed(tmp_path: Path) -> None:
    processes = multiprocessing.get_context("fork")
    held, over = processes.Event(), processes.Event()
    first = processes.Process(target=_hold, args=(str(tmp_path), held, over))
    first.start()
    assert held.wait(30)
    with pytest.raises(CheckpointError, match=rf"another driver \(process {first.pid} at .*--checkpoint_dir"):
        CheckpointStore(str(tmp_path), "job").acquire()
    CheckpointStore(str(tmp_path), "another job").acquire()
    first.kill()
    first.join()
    CheckpointStore(str(tmp_path), "job").acquire()


def test_a_driver_that_was_thought_dead_publishes_nothing(job: Job, path: str) -> None:
    job.take(1, {"s": whole(b"1")})
    receipts = job.store(2, {"s": whole(b"2")})
    job.driver.release()  # as where there are no locks
    CheckpointStore(path, "job").acquire()
    with pytest.raises(CheckpointError, match="has taken over the job 'job'"):
        job.driver.publish(2, receipts, PLAN, Kind.PERIODIC)
    assert job.driver.latest().epoch == 1  # type: ignore[union-attr]


def test_what_a_worker_that_was_thought_dead_writes_is_not_what_is_named(job: Job, path: str) -> None:
    late = CheckpointStore(path, "job", run="earlier")
    receipts = job.store(1, {"s": whole(b"now")})
    late.write(1, 0, {"s": whole(b"late")})
    manifest = job.driver.publish(1, receipts, PLAN, Kind.PERIODIC)
    assert keyed(manifest) == [[b"now"]]


# Local files.


def test_an_object_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    objects = LocalObjectStore(str(tmp_path))
    objects.put("a/b", b"one")
    objects.put("a/b", b"two")
    assert objects.get("a/b") == b"two"
    with pytest.raises(FileExistsError):
        objects.create("a/b", b"three")
    assert objects.names() == ["a/b"]
    objects.remove("a/b")
    objects.remove("a/b")
    assert objects.names() == []
