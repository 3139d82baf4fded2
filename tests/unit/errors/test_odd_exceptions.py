"""Exceptions that do not behave: ends of the interpreter, endless recursion, locks inside, no text, errors of ours."""

from __future__ import annotations

import sys
import threading
from typing import Any

import apache_beam as beam

from sage.errors import Fault, MissingExtra


def test_sys_exit_in_a_step_ends_the_job_and_nothing_else(failing):
    def build(p):
        p | beam.Create([1]) | "Leave" >> beam.Map(lambda _: sys.exit(3))

    error = failing(build, "Leave", SystemExit)

    assert error.cause.code == 3


def test_recursion_without_end(failing):
    def deeper(n: int) -> int:
        return deeper(n + 1)

    def build(p):
        p | beam.Create([1]) | "Deeper" >> beam.Map(deeper)

    failing(build, "Deeper", RecursionError)


class TwoReasons(Exception):
    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")
        self.second = second
        self.lock = threading.Condition()


def test_an_exception_with_arguments_of_its_own_and_a_lock_comes_back_as_itself(failing):
    def fail(_: Any) -> None:
        raise TwoReasons("one", "two")

    def build(p):
        p | beam.Create([1]) | "Fail" >> beam.Map(fail)

    error = failing(build, "Fail", TwoReasons, "TwoReasons: one and two")

    assert error.cause.second == "two"
    assert isinstance(error, TwoReasons)


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def test_an_exception_that_cannot_be_printed(failing):
    def fail(_: Any) -> None:
        raise Mute

    def build(p):
        p | beam.Create([1]) | "Fail" >> beam.Map(fail)

    failing(build, "Fail", Mute, "its message cannot be had")


def test_an_error_of_ours_in_a_step_keeps_its_fault(failing):
    def fail(_: Any) -> None:
        raise MissingExtra("reading minds", "telepathy")

    def build(p):
        p | beam.Create([1]) | "Read" >> beam.Map(fail)

    error = failing(build, "Read", MissingExtra, r"sage-stream\[telepathy\]")

    assert error.fault is Fault.ENVIRONMENT


def test_a_pipeline_inside_a_dofn_names_the_step_inside(failing):
    def inside(n: int) -> None:
        from sage.runners.local import LocalRunner

        with beam.Pipeline(runner=LocalRunner()) as q:
            q | beam.Create([n]) | "Inner" >> beam.Map(lambda m: m // 0)

    def build(p):
        p | beam.Create([1]) | "Outer" >> beam.Map(inside)

    failing(build, "Inner", ZeroDivisionError)
