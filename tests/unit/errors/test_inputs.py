"""Files, options, functions and pipelines that cannot be: one error each, before anything runs where that can be."""

from __future__ import annotations

import shutil
import socket
import sqlite3
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms import window

from sage.errors import ConfigError, Fault, InvalidPipeline, SageError, StepError
from sage.runners.local import LocalRunner
from sage.transforms.io import WriteText


@pytest.mark.parametrize("name", ["missing.txt", "*.nothing"])
def test_a_file_that_is_not_there_is_told_while_the_pipeline_is_built(tmp_path, name):
    p = beam.Pipeline(runner=LocalRunner())
    with pytest.raises(OSError, match="No files found based on the file pattern") as caught:
        p | beam.io.ReadFromText(str(tmp_path / name))
    assert name in str(caught.value)


READ = "Read/Read/SDFBoundedSourceReader/ParDo(SDFBoundedSourceDoFn)"


def test_a_file_that_cannot_be_read(failing, tmp_path):
    def build(p):
        p | "Read" >> beam.io.ReadFromText(str(tmp_path), validate=False)

    error = failing(build, READ, IsADirectoryError)

    assert str(tmp_path) in str(error)


def test_a_line_that_cannot_be_decoded_is_told_with_its_file_and_place(run, tmp_path):
    file = tmp_path / "latin.txt"
    file.write_bytes(b"good\n" * 3 + b"caf\xe9\n" + b"good\n")
    got: list[str] = []

    def build(p):
        p | "Read" >> beam.io.ReadFromText(str(file)) | beam.Map(got.append)

    with pytest.raises(StepError) as caught:
        run(build)
    error = caught.value
    assert error.step == READ
    assert isinstance(error, UnicodeDecodeError)
    assert f"in the line that begins at byte 15 of {file}" in str(error)


def test_a_file_that_is_not_what_its_name_says(failing, tmp_path):
    file = tmp_path / "plain.gz"
    file.write_bytes(b"not compressed")

    def build(p):
        p | "Read" >> beam.io.ReadFromText(str(file))

    failing(build, READ, Exception, "incorrect header check")


def test_a_folder_that_cannot_be_written_to(failing):
    def build(p):
        p | beam.Create(["line"]) | "Write" >> beam.io.WriteToText("/proc/nowhere/out")

    failing(build, "Write/Write/WriteImpl/InitializeWrite", OSError, "/proc/nowhere")


def test_a_file_where_a_folder_is_needed_is_no_mistake_of_the_code(failing, tmp_path):
    (tmp_path / "file").write_text("in the way")

    def build(p):
        p | beam.Create(["line"]) | "Write" >> WriteText(str(tmp_path / "file" / "out"))

    error = failing(build, "Write/Parts", OSError, "a file is where a folder is needed")

    assert (error.fault, error.retryable, error.raised_at) == (Fault.ENVIRONMENT, False, None)


def test_a_server_that_does_not_answer_may_do_so_later(failing):
    def build(p):
        # A port that nobody listens at, and no function of the user's.
        p | beam.Create([("127.0.0.1", 1)]) | "Connect" >> beam.Map(socket.create_connection)

    error = failing(build, "Connect", ConnectionRefusedError)

    assert (error.fault, error.retryable) == (Fault.ENVIRONMENT, True)


def test_what_python_raises_for_the_users_code_is_at_the_users_line(failing, tmp_path):
    def build(p):
        p | beam.Create([1]) | "Copy" >> beam.Map(lambda n: shutil.copy(tmp_path / "nowhere", tmp_path))

    error = failing(build, "Copy", FileNotFoundError)

    assert (error.fault, error.retryable) == (Fault.USER_CODE, False)
    assert "shutil.copy" in error.raised_at.text


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("memory_limit", "lots", "'lots' is not a size in bytes: write it like 512MB"),
        ("memory_limit", "0", "give more than 0"),
        ("workers", "0", "0 workers cannot run a job: give 1 or more"),
        ("workers", "-2", "-2 workers cannot run a job"),
        ("workers", "many", "'many' is not a valid int"),
        ("max_bundle_time", "soon", "'soon' is not a duration"),
        ("execution_path", "quick", "'quick' is not one of 'auto', 'compiled', 'bound', 'general'"),
    ],
)
@pytest.mark.parametrize("by_keyword", [False, True])
def test_a_bad_value_of_an_option(name, value, message, by_keyword, capfd):
    def run() -> None:
        options = PipelineOptions([], **{name: value}) if by_keyword else PipelineOptions([f"--{name}={value}"])
        with beam.Pipeline(runner=LocalRunner(), options=options) as p:
            p | beam.Create([1])

    with pytest.raises(ConfigError) as caught:
        run()
    assert str(caught.value).startswith(f"--{name}: ")
    assert message in str(caught.value)
    assert "usage" not in capfd.readouterr().err


def test_options_given_as_text_by_keyword_are_read(run):
    options = PipelineOptions([], memory_limit="64MB", workers="1")
    with beam.Pipeline(runner=LocalRunner(), options=options) as p:
        p | beam.Create([("a", 1)]) | beam.GroupByKey()


def test_a_type_hint_that_does_not_fit_is_told_while_the_pipeline_is_built():
    p = beam.Pipeline(runner=LocalRunner())
    with pytest.raises(beam.typehints.decorators.TypeCheckError, match=r"Len"):
        p | beam.Create([1]) | "Len" >> beam.Map(len).with_input_types(str)


def test_a_function_that_came_to_hold_what_cannot_be_pickled_names_step_and_variable():
    held: list[Any] = []
    p = beam.Pipeline(runner=LocalRunner())
    p | beam.Create([1]) | "Ask" >> beam.Map(lambda n: held)
    transform = p.transforms_stack[0].parts[-1].transform
    transform.fn.connection = sqlite3.connect(":memory:")

    with pytest.raises(InvalidPipeline, match=r"step 'Ask' \(applied at .*test_inputs.py:\d+\)") as caught:
        p.run()
    assert "'fn.connection' (Connection) cannot be pickled: make it in the step's setup()" in str(caught.value)
    assert caught.value.__cause__ is not None


def test_a_captured_connection_is_refused_and_named():
    connection = sqlite3.connect(":memory:")

    def run() -> None:
        with beam.Pipeline(runner=LocalRunner()) as p:
            p | beam.Create([1]) | "Ask" >> beam.Map(lambda n: connection)

    # Newer versions of Beam look while the pipeline is built, and older ones when it is run.
    with pytest.raises((RuntimeError, InvalidPipeline, TypeError), match=r"cannot pickle .*sqlite3.Connection"):
        run()


def test_the_variable_at_fault_is_found_in_what_a_function_holds():
    from sage.runners.driver.serialising import culprit

    connection = sqlite3.connect(":memory:")

    class Holder:
        def __init__(self) -> None:
            self.fine = 1
            self.parts = {"db": [connection]}

    holder = Holder()
    assert culprit(lambda: connection) == "'connection' (Connection)"
    assert culprit(lambda: holder) == "'holder.parts['db'][0]' (Connection)"
    assert culprit(lambda: 1) is None


class Key:
    pass


class Unsteady(beam.coders.Coder):
    def encode(self, value: Any) -> bytes:
        return b"key"

    def decode(self, data: bytes) -> Key:
        return Key()

    def is_deterministic(self) -> bool:
        return False

    def to_type_hint(self) -> type:
        return Key


def test_a_key_coder_that_is_not_deterministic():
    beam.coders.registry.register_coder(Key, Unsteady)
    pair = beam.typehints.Tuple[Key, int]
    p = beam.Pipeline(runner=LocalRunner())
    keyed = p | beam.Create([1]) | "Key" >> beam.Map(lambda n: (Key(), n)).with_output_types(pair)
    keyed | "Group" >> beam.GroupByKey()

    with pytest.raises(InvalidPipeline, match=r"'Group'.*Equal keys must have equal bytes"):
        p.run()


def divide(n: int) -> int:
    return 10 // n


@pytest.mark.parametrize("flags", [[], ["--execution_path=general"], ["--workers=2"]])
def test_dead_letters_have_the_cause_and_all_good_elements_come_out(run, flags, tmp_path):
    def build(p):
        numbers = p | beam.Create([*range(1, 500), 0, *range(500, 1000), 0])
        good, bad = numbers | "Divide" >> beam.Map(divide).with_exception_handling()
        good | beam.combiners.Count.Globally() | "G" >> beam.io.WriteToText(str(tmp_path / "good"))
        (
            bad
            | beam.Map(lambda letter: f"{letter[0]} {letter[1][0].__name__} {letter[1][1]}")
            | "B" >> beam.io.WriteToText(str(tmp_path / "bad"))
        )

    run(build, *flags)

    good, bad = ([line for f in tmp_path.glob(n) for line in f.read_text().splitlines()] for n in ("good*", "bad*"))
    assert good == ["999"]
    assert len(bad) == 2
    assert all(line.startswith("0 ZeroDivisionError ZeroDivisionError(") for line in bad)


def test_more_dead_letters_than_allowed(failing):
    def build(p):
        p | beam.Create([1, 0, 0]) | "Divide" >> beam.Map(divide).with_exception_handling(threshold=0.1)

    failing(build, "Divide/Map(check_threshold)", ValueError, "exceeded threshold")


def test_no_steps_at_all(run):
    run(lambda p: None)


def test_a_pipeline_may_run_twice():
    p = beam.Pipeline(runner=LocalRunner())
    p | beam.Create([1]) | beam.Map(str)
    assert p.run().wait_until_finish() == "DONE"
    assert p.run().wait_until_finish() == "DONE"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_deep_chain_names_the_step_at_its_end(run, workers):
    def build(p):
        values = p | beam.Create([1])
        for n in range(100):
            values |= f"Map {n}" >> beam.Map(lambda value: value + 1)
        values | "Last" >> beam.Map(lambda value: value // 0)

    with pytest.raises(StepError) as caught:
        run(build, f"--workers={workers}")
    assert caught.value.step == "Last"


def test_many_shuffles_one_behind_the_other(run):
    def build(p):
        values = p | beam.Create([("a", 1)])
        for n in range(20):
            values |= f"Group {n}" >> beam.GroupByKey()
            values |= f"Take {n}" >> beam.Map(lambda pair: (pair[0], next(iter(pair[1]))))
        values | "Last" >> beam.Map(lambda pair: pair[2])

    with pytest.raises(IndexError) as caught:
        run(build)
    assert caught.value.step == "Last"


def test_many_branches_flattened(run):
    def build(p):
        values = p | beam.Create([1])
        branches = [values | f"Map {n}" >> beam.Map(lambda value: value) for n in range(50)]
        branches | beam.Flatten() | "Last" >> beam.Map(lambda value: value // 0)

    with pytest.raises(ZeroDivisionError):
        run(build)


def test_pipelines_that_are_mixed_up():
    p, q = beam.Pipeline(runner=LocalRunner()), beam.Pipeline(runner=LocalRunner())
    with pytest.raises(ValueError, match="different pipelines"):
        (p | beam.Create([1]), q | beam.Create([2])) | beam.Flatten()


def test_no_error_of_ours_hides_what_it_came_from(run):
    def build(p):
        p | beam.Create([1]) | beam.WindowInto(window.FixedWindows(1)) | "Fail" >> beam.Map(lambda n: int("x"))

    with pytest.raises(SageError) as caught:
        run(build)
    assert isinstance(caught.value.__cause__, ValueError)
    assert caught.value.__cause__.__traceback__ is not None
