"""What a worker says, and what the driver makes of it where that is not plain; real workers are in conformance."""

from __future__ import annotations

import io
import logging
import pickle
import sys
import warnings
from typing import Any

import pytest

from sage.runners.worker.worker_output import OutputForwarder, OutputReplayer, levels


def test_a_stream_that_user_code_has_closed_is_not_missed() -> None:
    said: list[Any] = []
    voice = OutputForwarder(lambda kind, what: said.append(what))
    print("begun", end="", file=voice._streams["stdout"])
    voice._streams["stderr"].close()
    voice.flush()
    assert said == [("stdout", b"begun")]


def test_what_the_drivers_stream_cannot_encode_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, "ascii", write_through=True))
    OutputReplayer().replay("print", ("stdout", "é\n".encode()))
    assert written.getvalue() == b"\\xe9\n"


def test_a_place_warns_once_for_all_workers_unless_a_filter_says_always() -> None:
    warning = ("careful", UserWarning, "job.py", 7)
    for action, expected in (("default", 1), ("always", 3), ("ignore", 0)):
        echo = OutputReplayer()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter(action)  # type: ignore[arg-type]
            for _ in range(3):
                echo.replay("warn", warning)
        assert [str(found.message) for found in caught] == ["careful"] * expected


def test_the_words_of_a_report_that_counts_no_more_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    echo = OutputReplayer()
    echo.replay_last(pickle.dumps(("output", "print", ("stdout", b"the last\n"))))
    echo.replay_last(pickle.dumps(("progress", [])))
    echo.replay_last(b"not a report")
    assert capsys.readouterr().out == "the last\n"


def test_loggers_with_a_level_of_their_own_are_told() -> None:
    logging.getLogger("sage.test.chatty").setLevel(logging.DEBUG)
    logging.getLogger("sage.test.quiet")
    told = levels()
    assert told["sage.test.chatty"] == logging.DEBUG
    assert "sage.test.quiet" not in told
    assert told[""] == logging.root.level
