"""What SAGE logs while `sage run` runs a job."""

from __future__ import annotations

import pytest

JOB = """
    import logging, sys
    import sage
    from sage import runtime

    class Told(sage.MapFunction):
        def open(self, context):
            self.log = context.logger

        def map(self, value):
            self.log.warning("odd: %s", value)
            return value

    {own}
    env = sage.LocalEnvironment("told")
    env.from_collection([7]).map(Told).sink(print)
    env.execute()
"""
OWN = 'logging.basicConfig(format="MINE %(name)s %(message)s", stream=sys.stdout, force=True)'


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_warning_comes_without_the_name_of_a_module(sage, script, workers):
    ran = sage("run", script(JOB.format(own="")), "--workers", workers)

    assert ran.code == 0
    assert ran.err == "warning: map(Told): odd: 7\n"


def test_a_script_that_sets_up_logging_gets_it_there(sage, script):
    ran = sage("run", script(JOB.format(own=OWN)))

    assert (ran.out, ran.err) == ("MINE sage.step.map(Told) odd: 7\n7\n", "")
