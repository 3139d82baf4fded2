"""`python -m tests.conformance`: Beam's own suites on a runner of ours, passed of reached."""

from __future__ import annotations

import argparse
import time

from tests.conformance.suites import SUITES
from tests.conformance.verdict import BEAM_VERSION, LOCAL, Run


def main() -> int:
    """Runs the suites that the command line names; 1 if a test did what it is not expected to."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("suites", nargs="*", choices=[[], *SUITES], help="which suites; all of them if none is named")
    parser.add_argument("--runner", default=LOCAL, help="the dotted name of the runner (default: %(default)s)")
    parser.add_argument("--workers", type=int, help="worker processes of each pipeline (count)")
    parser.add_argument("--execution-path", help="the only way in which steps may run")
    parser.add_argument("--limit", type=int, default=120, help="the most time for one test (s, default: %(default)s)")
    parser.add_argument("--select", default="", help="only tests with this in their names, as pytest's -k takes it")
    given = parser.parse_args()
    options = {"workers": given.workers, "execution_path": given.execution_path}
    run = Run(given.runner, {key: value for key, value in options.items() if value}, given.limit, given.select)
    print(f"Apache Beam {BEAM_VERSION}, {given.runner}")
    print(f"{'suite':<16} {'passed':>6} {'reached':>7} {'seconds':>8}")
    verdicts = []
    for name in given.suites or SUITES:
        began = time.monotonic()
        verdict = run.run(SUITES[name])
        verdicts.append(verdict)
        print(f"{name:<16} {verdict.passed:>6} {verdict.reached:>7} {time.monotonic() - began:>8.1f}", flush=True)
        for line in str(verdict).splitlines()[1:]:
            print(line)
    passed, reached = sum(v.passed for v in verdicts), sum(v.reached for v in verdicts)
    print(f"{'all':<16} {passed:>6} {reached:>7}")
    return int(any(v.wrong or v.fixed for v in verdicts))


if __name__ == "__main__":
    raise SystemExit(main())
