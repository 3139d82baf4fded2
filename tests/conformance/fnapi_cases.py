"""Beam's tests of its own portable runner, on the runner under test; collected by `child`, not by hand."""

from __future__ import annotations

import apache_beam as beam
from apache_beam.runners.portability.fn_api_runner import fn_runner_test

from tests.conformance.child import runner_under_test


class FnApiCases(fn_runner_test.FnApiRunnerTest):
    """All cases, with the one hook that Beam's runners use too."""

    def create_pipeline(self, is_drain: bool = False) -> beam.Pipeline:
        return beam.Pipeline(runner=runner_under_test(is_drain=is_drain))
