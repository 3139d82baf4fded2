"""Which of the tests that Beam ships say something about a runner."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import apache_beam

BEAM = Path(os.path.dirname(apache_beam.__file__))
MARK = "it_validatesrunner"
# These are about one particular service, or need what is not in the wheel.
ELSEWHERE = ("runners/dataflow/", "runners/portability/", "io/gcp/", "examples/dataframe/")


@dataclass(frozen=True)
class Suite:
    """Test modules of Beam that run in one process.

    ``modules`` are paths below the package ``apache_beam``; ``own`` are modules of this folder, which subclass
    Beam's. ``keyword`` and ``mark`` choose among their tests, as pytest's ``-k`` and ``-m`` do.
    """

    name: str
    modules: tuple[str, ...] = ()
    own: tuple[str, ...] = ()
    keyword: str = ""
    mark: str = ""

    def paths(self) -> list[str]:
        """The files to collect; modules that the installed Beam has not are left out."""
        here = Path(__file__).parent
        found = [BEAM / module for module in self.modules if (BEAM / module).exists()]
        return [str(path) for path in [*found, *(here / name for name in self.own)]]


def _marked() -> tuple[str, ...]:
    names = (str(path.relative_to(BEAM)) for path in BEAM.rglob("*_test.py") if MARK in path.read_text("utf-8"))
    return tuple(sorted(name for name in names if not name.startswith(ELSEWHERE)))


def _below(folder: str, names: str) -> tuple[str, ...]:
    return tuple(f"{folder}{name}_test.py" for name in names.split())


TEST_STREAM = Suite("test_stream", ("testing/test_stream_test.py", "testing/test_stream_it_test.py"))
TRANSCRIPTS = Suite(
    "transcripts",
    ("transforms/trigger_test.py",),
    keyword="TestStreamTranscriptTest or BatchTranscriptTest",
)
SUITES = {
    suite.name: suite
    for suite in (
        Suite("fnapi", own=("fnapi_cases.py",)),
        Suite("validatesrunner", _marked(), mark=MARK),
        TEST_STREAM,
        TRANSCRIPTS,
        Suite(
            "core",
            (
                "pipeline_test.py", "metrics/metric_test.py", "coders/row_coder_test.py", "programming_guide_test.py",
                *_below("typehints/", "typed_pipeline typecheck row_type tagged_output_typehints"),
                *_below("testing/", "util synthetic_pipeline"),
                "runners/runner_test.py",
            ),
        ),
        Suite(
            "streaming",
            (
                "transforms/periodicsequence_test.py",
                *_below("io/", "unbounded_source watch"),
                *_below("examples/", "streaming_wordcount_debugging cookbook/ordered_window_elements/streaming"),
                *_below("examples/complete/game/", "leader_board game_stats"),
            ),
        ),
        Suite(
            "transforms",
            _below(
                "transforms/",
                "combinefn_lifecycle combiners core create deduplicate dofn_lifecycle error_handling"
                " fully_qualified_named_transform ptransform sideinputs stats timestamped_value_type"
                " transforms_keyword_only_args trigger userstate util window write_ptransform",
            ),
            keyword="not TranscriptTest",
        ),
    )
}  # fmt: skip
SHORT = ("fnapi", "validatesrunner", "test_stream", "transcripts")
"""The suites that the test-suite runs each time; `make conformance` runs all."""
