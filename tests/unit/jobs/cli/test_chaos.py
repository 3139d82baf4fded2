"""`sage chaos`: a job is crashed in a simulation, and its output compared."""

from __future__ import annotations

GOOD = """
    from apache_beam.transforms.window import FixedWindows, TimestampedValue

    with beam.Pipeline() as p:
        pairs = p | beam.Create(range(60)) | beam.Map(lambda n: TimestampedValue((n % 3, n), n))
        pairs | beam.WindowInto(FixedWindows(20)) | "Sum" >> beam.CombinePerKey(sum) | "Show" >> beam.Map(print)
"""

FORGETFUL = """
    class Numbered(beam.DoFn):
        def __init__(self):
            self.seen = 0

        def process(self, element):
            self.seen += 1  # lost with the worker, and another at each
            yield element[0], self.seen

    with beam.Pipeline() as p:
        rows = p | beam.Create([(n % 3, n) for n in range(30)]) | "Number" >> beam.ParDo(Numbered())
        rows | beam.GroupByKey() | beam.MapTuple(lambda key, found: (key, sorted(found))) | "Show" >> beam.Map(print)
"""


def test_a_job_that_keeps_nothing_of_its_own_passes(sage, script):
    ran = sage("chaos", script(GOOD), "--seeds", "8")

    assert ran.code == 0, ran.err
    assert ran.out.startswith("compared: what goes into 'Show'\n8 runs, ")
    assert ran.out.endswith("9 records in each: nothing lost, nothing twice\n")


def test_a_job_that_forgets_is_found_and_its_last_line_runs_it_again(sage, script):
    job = script(FORGETFUL)
    ran = sage("chaos", job, "--seeds", "60")

    assert ran.code == 1
    _, found, *_, again = ran.out.splitlines()
    assert "records lost" in found
    assert again.startswith(f"again: sage chaos {job} --seed ")

    once_more = sage(*again.split()[2:])

    assert once_more.code == 1
    assert found in once_more.out
    assert "attempt 0 at " in once_more.out


def test_the_log_of_one_seed_has_every_event(sage, script, tmp_path):
    ran = sage("chaos", script(GOOD), "--seed", "1", "--log", str(tmp_path / "log"), "--crashes", "0")

    assert ran.code == 0, ran.err
    events = (tmp_path / "log").read_text().splitlines()
    assert events[0].startswith("attempt 0 ")
    assert any(event.startswith("commit ") for event in events)
    assert not any(event.startswith("crash") for event in events)


def test_a_job_that_fails_by_itself_is_an_error_of_the_job(sage, script):
    ran = sage("chaos", script("""
    def broken(n):
        raise ValueError("no")

    with beam.Pipeline() as p:
        p | beam.Create([1]) | "Break" >> beam.Map(broken) | "Show" >> beam.Map(print)
    """))  # fmt: skip

    assert ran.code == 1
    assert "Break" in ran.err


def test_a_job_of_which_nothing_comes_is_no_success(sage, script):
    ran = sage("chaos", script("""
        with beam.Pipeline() as p:
            p | beam.Create([1, 2]) | beam.Filter(lambda n: n > 2) | "Show" >> beam.Map(print)
    """))

    assert (ran.code, ran.out) == (2, "compared: what goes into 'Show'\n")
    assert "there is nothing to compare" in ran.err
