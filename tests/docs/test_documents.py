"""README and CONTRIBUTING: their programs run, their commands end well, the files they name are there."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sage.options import SageOptions
from tests.docs.snippets import Snippet, snippets
from tests.patience import patience

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
SNIPPETS = [snippet for document in DOCUMENTS for snippet in snippets(document)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a reader would try things out: holds every block that has a file name."""
    folder = tmp_path_factory.mktemp("reader")
    for snippet in SNIPPETS:
        if snippet.file:
            (folder / snippet.file).write_text(snippet.text, encoding="utf-8")
    return folder


def run(command: list[str] | str, folder: Path) -> subprocess.CompletedProcess[str]:
    beside_python = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        command,
        cwd=folder,
        shell=isinstance(command, str),
        env={**os.environ, "PATH": beside_python},
        capture_output=True,
        text=True,
        timeout=patience(110),
    )


def of_language(*languages: str) -> list[Snippet]:
    return [snippet for snippet in SNIPPETS if snippet.language in languages and snippet.not_run is None]


@pytest.mark.parametrize("snippet", of_language("python"), ids=str)
def test_a_program_runs(snippet: Snippet, folder: Path) -> None:
    """As a file of its own, in a process of its own, as a reader would."""
    program = folder / (snippet.file or f"line_{snippet.line}.py")
    program.write_text(snippet.text, encoding="utf-8")
    done = run([sys.executable, program.name], folder)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("snippet", of_language("console"), ids=str)
def test_commands_end_well_and_print_what_is_shown(snippet: Snippet, folder: Path) -> None:
    """Lines after a command are parts of its output, in order; a line of dots stands for anything."""
    for part in re.split(r"^\$ ", snippet.text, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        done = run(command, folder)
        output = done.stdout + done.stderr
        for line in shown.splitlines():
            if line.strip() and line.strip() != "...":
                assert line.rstrip() in output, f"{command} prints no {line!r} but:\n{output}"
        if not shown.strip():
            assert done.returncode == 0, output


@pytest.mark.parametrize("snippet", [snippet for snippet in SNIPPETS if snippet.not_run], ids=str)
def test_a_block_that_is_not_run_says_why(snippet: Snippet) -> None:
    assert len((snippet.not_run or "").split()) > 3


def test_every_make_target_that_is_named_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    for document in DOCUMENTS:
        named = set(re.findall(r"`make ([a-z-]+)", document.read_text(encoding="utf-8")))
        assert named <= targets, document.name


def test_every_file_that_is_named_is_there() -> None:
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        named = re.findall(
            r"`((?:sdk|runners|transforms|jobs|templates|tests|\.ci)/[\w./-]*|\.ci/run)`|\]\(([\w./-]+)\)", text
        )
        missing = [path for pair in named for path in pair if path and not (ROOT / path).exists()]
        assert not missing, f"{document.name} names {missing}"


def test_every_folder_of_tests_is_in_the_table() -> None:
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    holding = {file.relative_to(ROOT / "tests").parts[0] for file in (ROOT / "tests").rglob("*/*.py")}
    missing = [name for name in sorted(holding) if not re.search(rf"^\| .*`tests/{name}/`.* \|", contributing, re.M)]
    assert not missing, f"say in CONTRIBUTING.md what these hold: {missing}"


def test_the_options_table_is_what_the_options_say() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    SageOptions._add_argparse_args(parser)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = {option_row(action) for action in parser._actions}
    assert rows == set(re.findall(r"^\| `--.*$", readme, re.MULTILINE)), "\n".join(sorted(rows))


def option_row(action: argparse.Action) -> str:
    """A line of README's table, in which a bar that ends no cell is escaped."""
    value = f"={action.metavar}".replace("|", r"\|") if action.metavar else ""
    meaning = " ".join((action.help or "").split())
    return f"| `{action.option_strings[0]}{value}` | {meaning} |"
