"""What is written beside the code: docstrings where a user looks, and nothing that is true on one machine only."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
from collections.abc import Iterator

from tests.architecture.tree import ROOT, sources
from tests.patience import patience

# A folder that belongs to one machine or one person, written with its full path.
MACHINE_PATHS = re.compile(r"(?<![\w.}])/(?:home|Users|root|work|opt)/\w+|/tmp/h/")

# Words that no Beam, Flink or Kafka engineer would grep for; CONTRIBUTING's glossary has the ones that they would.
BARRED = frozenset({"beside", "bring", "gives", "held", "here", "said", "shed", "thing", "told", "whose"})


def test_names_speak_the_language_of_the_field() -> None:
    found = sorted({
        f"{source.path}:{line} {name}"
        for source in sources()
        for name, line in _names(source.tree)
        if BARRED & {word.lower() for word in re.findall(r"[A-Z]?[a-z]+", name)}
    })
    assert not found, "\n".join(["", *found])


def test_files_are_named_in_the_language_of_the_field() -> None:
    assert [s.path for s in sources() if BARRED & set(re.split(r"[/_.]", s.path))] == []


def _names(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Every name that a file defines: classes, functions, parameters, variables and attributes."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name, node.lineno
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno


def test_every_module_says_what_it_is_for() -> None:
    silent = [source.path for source in sources() if source.text.strip() and not ast.get_docstring(source.tree)]
    assert silent == []


def test_every_public_class_and_function_has_a_docstring() -> None:
    silent = [
        f"{source.path}:{node.lineno} {node.name}"
        for source in sources()
        for node in source.tree.body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        if not node.name.startswith("_") and not ast.get_docstring(node) and not _is_helpful_command(node)
    ]
    assert not silent, "\n".join(["", *silent])


def _is_helpful_command(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
    """A command whose text is given to its decorator, where the command line shows it."""
    return any(
        isinstance(decorator, ast.Call) and any(keyword.arg == "help" for keyword in decorator.keywords)
        for decorator in node.decorator_list
        if "command" in ast.unparse(decorator)
    )


def test_every_public_method_of_the_sdk_has_a_docstring() -> None:
    """One that overrides another means what that one says."""
    silent = [name for source in sources("sdk") for name in _undocumented_methods(source.module)]
    assert not silent, "\n".join(["", *silent])


def _undocumented_methods(module_name: str) -> Iterator[str]:
    module = importlib.import_module(module_name)
    for class_name, cls in inspect.getmembers(module, inspect.isclass):
        if cls.__module__ != module_name or class_name.startswith("_"):  # imported, or not a user's
            continue
        for name, member in vars(cls).items():
            member = member.__func__ if isinstance(member, (staticmethod, classmethod)) else member
            if name.startswith("_") or not (inspect.isfunction(member) or isinstance(member, property)):
                continue
            overrides = any(name in vars(base) for base in cls.__mro__[1:])
            if not overrides and not inspect.getdoc(member):
                yield f"{module_name}.{class_name}.{name}"


def test_nothing_names_a_place_on_one_machine() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, timeout=patience(60)).stdout
    paths = listed.splitlines() or [source.path for source in sources()]
    found = []
    for path in paths:
        file = ROOT / path
        if (
            file.suffix in {".py", ".md", ".toml", ".cfg", ".yaml", ".yml", ".txt", ".in", ".json", ""}
            and file.is_file()
        ):
            for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
                if path != "tests/architecture/test_words.py" and MACHINE_PATHS.search(line):
                    found.append(f"{path}:{number} {line.strip()}")
    assert not found, "\n".join(["", *found])
