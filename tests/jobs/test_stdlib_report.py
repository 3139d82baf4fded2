from __future__ import annotations

import ast
import collections
import datetime
import io
import json
import keyword
import os
import re
import tokenize
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from sage.errors import ConfigError
from sage.jobs.stdlib_report import main
from sage.jobs.stdlib_report.source import SourceFile, count_words, find_imports, module_name, parse

TREE = {
    "app/__init__.py": b'"""An app."""\nfrom . import core, missing\nfrom .core import run\n',
    "app/core.py": b"import json, sys\nfrom app import *\n\ndef run(x):\n    import lib.deep\n    return x  # the x\n",
    "lib/__init__.py": b"",
    "lib/deep.py": b"# -*- coding: latin-1 -*-\nfrom ..toofar import x\nname = 'caf\xe9 ol\xe9'\n",
    "lib/unused.py": b"try:\n    import json as j\nexcept ImportError:\n    from app.core import run as j\n",
    "bad/syntax.py": b"x = 1\ndef (:\n",
    "bad/encoding.py": b"x = '\xff'\n",
    "site-packages/other.py": b"import nothing_of_this_counts\n",
    "notes.txt": b"import nothing\n",
}
NINE = datetime.datetime(2024, 2, 29, 9, tzinfo=datetime.timezone.utc)
TEN = NINE + datetime.timedelta(hours=1)
ELEVEN = NINE + datetime.timedelta(hours=2)
GOOD = ["app/__init__.py", "app/core.py", "lib/__init__.py", "lib/deep.py", "lib/unused.py"]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree [1]"  # a name that means something else as a glob
    for name, content in TREE.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        # Two files are from after ten, one of them on the dot of it.
        late = {"lib/deep.py": 0, "lib/unused.py": 1800}.get(name)
        changed = NINE.timestamp() + 60 if late is None else TEN.timestamp() + late
        os.utime(path, (changed, changed))
    return root


def _table(path: Path) -> list[dict[str, Any]]:
    return pq.read_table(path).to_pylist()


def _reference_words(files: dict[str, str]) -> dict[tuple[str, str], int]:
    """The same counts from Python's own tokenizer."""
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    for text in files.values():
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.NAME:
                counts["keyword" if keyword.iskeyword(token.string) else "name", token.string] += 1
            elif token.type in (tokenize.STRING, tokenize.COMMENT):
                counts.update(("word", word) for word in re.findall(r"\b[^\W\d_]{2,}\b", token.string.lower()))
    return dict(counts)


def test_the_report_equals_its_references_on_every_runner(
    tree: Path, tmp_path: Path, runner: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    main(["--source", str(tree), "--output", str(out), "--top", "2", *runner])

    texts = {name: TREE[name].decode("latin-1" if name == "lib/deep.py" else "utf-8") for name in GOOD}
    words = {(row["kind"], row["word"]): row["occurrences"] for row in _table(out / "words.parquet")}
    assert words == _reference_words({**texts, "bad/syntax.py": "x = 1\ndef"})

    # Every module that is defined or imported; `missing`, `run` and `x` are no modules; `.toofar` is above the root.
    uses = {row.pop("module"): row for row in _table(out / "imports.parquet")}
    assert uses == {
        "app": {"origin": "source", "defined_in": "app/__init__.py", "importers": 2},
        "app.core": {"origin": "source", "defined_in": "app/core.py", "importers": 2},
        "bad.syntax": {"origin": "source", "defined_in": "bad/syntax.py", "importers": 0},
        "json": {"origin": "compiled", "defined_in": "", "importers": 2},
        "lib": {"origin": "source", "defined_in": "lib/__init__.py", "importers": 0},
        "lib.deep": {"origin": "source", "defined_in": "lib/deep.py", "importers": 1},
        "lib.unused": {"origin": "source", "defined_in": "lib/unused.py", "importers": 0},
        "sys": {"origin": "compiled", "defined_in": "", "importers": 1},
    }

    sizes = {name: len(content) for name, content in TREE.items() if name.endswith(".py") and "site-" not in name}
    late = sizes["lib/deep.py"] + sizes["lib/unused.py"]
    assert _table(out / "windows.parquet") == [
        {"start": NINE, "end": TEN, "files": 5, "bytes": sum(sizes.values()) - late},
        {"start": TEN, "end": ELEVEN, "files": 2, "bytes": late},
    ]

    dead = [json.loads(line) for line in (out / "dead_letters.jsonl").read_text().splitlines()]
    assert [(letter["source"], letter["step"]) for letter in dead] == [
        ("bad/encoding.py", "Decode"),
        ("bad/syntax.py", "ParseImports"),
    ]
    assert "invalid" in dead[0]["reason"]
    assert dead[1]["reason"].endswith("(line 2)")

    printed = capsys.readouterr().out
    assert printed.startswith((out / "summary.txt").read_text())
    assert "6 files   18 lines" in printed
    assert "2 not usable" in printed
    assert "2024-02-29 09:00 to 2024-02-29 10:00  5  ######" in printed


def test_running_it_again_gives_the_same_bytes_and_nothing_is_left_over(
    tree: Path, tmp_path: Path, local: list[str]
) -> None:
    out = tmp_path / "out"
    argv = ["--source", str(tree), "--output", str(out), *local]
    main(argv)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert sorted(before) == [
        "dead_letters.jsonl",
        "imports.parquet",
        "summary.txt",
        "windows.parquet",
        "words.parquet",
    ]
    main(argv)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_an_empty_tree_has_a_report_too(tmp_path: Path, local: list[str]) -> None:
    source = tmp_path / "empty"
    source.mkdir()
    main(["--source", str(source), "--output", str(tmp_path / "out"), *local])
    assert "0 files   0 lines   0 B   0 not usable" in (tmp_path / "out" / "summary.txt").read_text()
    assert _table(tmp_path / "out" / "words.parquet") == []


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (["--source", "/no/such/folder"], "'/no/such/folder' is not a folder"),
        (["--window", "soon"], "'soon' is not a duration"),
        (["--window", "0s"], "must be above zero"),
        (["--top", "0"], "must be above zero"),
        (["--tpo", "5"], "unknown option '--tpo'. Did you mean --top\\?"),
        (["--worker=2"], "unknown option '--worker'. Did you mean --workers\\?"),
    ],
)
def test_wrong_parameters_stop_it_before_anything_runs(tmp_path: Path, argv: list[str], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        main([*argv, "--output", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


# Real and intricate files of the standard library: escapes, prefixes, quotes in quotes, raw and byte strings.
REAL = [json.decoder, re, tokenize, ast, collections, datetime]


@pytest.mark.parametrize("module", REAL, ids=lambda module: module.__name__)
def test_words_and_imports_of_real_files_equal_those_of_pythons_own_tools(module: Any) -> None:
    text = Path(module.__file__).read_text(encoding="utf-8")
    # From Python 3.12 on, the tokenizer looks into f-strings, where the report does not.
    if not re.search(r"""\b[rR]?[fF][rR]?["']""", text):
        assert dict(count_words(text)) == _reference_words({"file": text})
    file = SourceFile("pkg/file.py", "pkg.file", text)
    certain = {found.module for found in find_imports(file, parse(file)) if found.certain}
    reference = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            reference |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = "pkg" if node.level else ""
            reference.add(".".join(part for part in (base, node.module) if part))
    assert certain == reference


def test_names_of_modules() -> None:
    assert module_name("json/__init__.py") == "json"
    assert module_name("json/decoder.py") == "json.decoder"
    assert module_name("os.py") == "os"
