"""`sage doctor` and `sage version`."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import subprocess
import sys

from sage.jobs.cli import doctor
from tests.patience import patience


def test_doctor_finds_this_machine_fit_and_advises_on_each_gap(sage):
    ran = sage("doctor")

    assert ran.code == 0
    lines = ran.out.splitlines()
    assert lines[0].split()[:3] == ["ok", "Python", platform.python_version()]
    gaps = [n for n, line in enumerate(lines) if line.startswith("gap")]
    assert all(lines[n + 1].strip().startswith("->") for n in gaps)
    assert not any(line.startswith("broken") for line in lines)


def test_doctor_fails_where_no_job_can_run(sage, monkeypatch):
    def full(*args: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)

    ran = sage("doctor")

    assert ran.code == 1
    assert "broken  temp folder   No space left on device" in ran.out


def test_an_old_beam_is_broken(monkeypatch):
    monkeypatch.setattr(doctor, "installed_version", lambda name: "2.60.0")

    assert doctor._beam().verdict is doctor.Verdict.BROKEN


def test_version_names_what_a_bug_report_needs(sage):
    ran = sage("version")

    assert ran.code == 0
    assert f"apache-beam {importlib.metadata.version('apache-beam')}" in ran.out
    assert f"python {platform.python_version()}" in ran.out


def test_what_needs_no_beam_does_not_load_it():
    code = (
        "import sys; from sage.jobs.cli import main; main(['version']); main(['--help']); main(['doctor']);"
        "print([name for name in ('apache_beam', 'rich', 'numpy') if name in sys.modules])"
    )

    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=patience(60), check=True)

    assert ran.stdout.splitlines()[-1] == "[]"


def test_the_version_alone_is_one_line(sage):
    ran = sage("--version")
    assert ran.code == 0
    assert re.fullmatch(r"sage \d+\.\d+\.\d+\S*\n", ran.out)
