"""The source as the law sees it: files, the names they are imported by, and what each of them imports."""

from __future__ import annotations

import ast
import configparser
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LAYERS = ("sdk", "runners", "transforms", "jobs", "templates")


@dataclass(frozen=True)
class Import:
    """One imported name, resolved: ``from a import b`` is ``a.b``, and ``import a as x; x.b`` is ``a.b`` as well."""

    module: str
    line: int
    at_module_level: bool
    for_typing_only: bool


@dataclass(frozen=True)
class Source:
    """One Python file of the project; ``module`` is the name it is imported by."""

    path: str
    module: str
    text: str
    tree: ast.Module

    @property
    def layer(self) -> str:
        """The top-level folder it lies in."""
        return self.path.split("/", 1)[0]

    @functools.cached_property
    def imports(self) -> tuple[Import, ...]:
        """Everything the file imports, wherever in it."""
        return tuple(_imports(self))


def setup_cfg() -> configparser.ConfigParser:
    """The packaging of the project, as setuptools reads it."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def package_dirs() -> dict[str, str]:
    """The folder of each top-level package: ``{"sage": "sdk", "sage.runners": "runners", ...}``."""
    lines = setup_cfg()["options"]["package_dir"].split("\n")
    pairs = (line.split("=") for line in lines if line.strip())
    return {name.strip(): folder.strip() for name, folder in pairs}


def module_name(path: str) -> str:
    """The import name of a file, by the folder map: ``runners/plan/read.py`` is ``sage.runners.plan.read``."""
    packages = {folder: name for name, folder in package_dirs().items()}
    first, *rest = path.removesuffix(".py").split("/")
    if rest and rest[-1] == "__init__":
        rest.pop()
    return ".".join([packages.get(first, first), *rest])


@functools.cache
def sources(*folders: str) -> tuple[Source, ...]:
    """The Python files under the folders (by default the five layers), in order."""
    found = []
    for folder in folders or LAYERS:
        for file in sorted((ROOT / folder).rglob("*.py")):
            path = file.relative_to(ROOT).as_posix()
            text = file.read_text(encoding="utf-8")
            found.append(Source(path, module_name(path), text, ast.parse(text, path)))
    return tuple(found)


def within(module: str, *packages: str) -> bool:
    """Whether the module is one of the packages or lies inside one."""
    return any(module == package or module.startswith(package + ".") for package in packages)


def layer_of(module: str) -> str | None:
    """The layer that an imported name belongs to; None for what is not ours."""
    if not within(module, "sage"):
        return None
    for package, folder in package_dirs().items():
        if package != "sage" and within(module, package):
            return folder
    return "sdk"


def _imports(source: Source) -> Iterator[Import]:
    """Walks the file once, knowing for each import whether it runs on import, later, or for type checkers only."""
    aliases: dict[str, str] = {}

    def visit(node: ast.AST, at_module_level: bool, typing_only: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for name in node.names:
                aliases[name.asname or name.name.split(".")[0]] = name.name if name.asname else name.name.split(".")[0]
                yield Import(name.name, node.lineno, at_module_level, typing_only)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(source, node)
            for name in node.names:
                aliases[name.asname or name.name] = f"{base}.{name.name}"
                yield Import(f"{base}.{name.name}", node.lineno, at_module_level, typing_only)
        elif isinstance(node, ast.Attribute):
            dotted = _dotted(node)
            if dotted and dotted[0] in aliases:
                yield Import(".".join([aliases[dotted[0]], *dotted[1:]]), node.lineno, at_module_level, typing_only)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for child in node.body:
                yield from visit(child, at_module_level, True)
            for child in node.orelse:
                yield from visit(child, at_module_level, typing_only)
            return
        inside = at_module_level and not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for child in ast.iter_child_nodes(node):
            yield from visit(child, inside, typing_only)

    yield from visit(source.tree, True, False)


def _absolute(source: Source, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parts = source.module.split(".")
    is_package = source.path.endswith("__init__.py")
    parts = parts[: len(parts) - node.level + is_package]
    return ".".join([*parts, *([node.module] if node.module else [])])


def _dotted(node: ast.expr) -> list[str]:
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute):
        base = _dotted(node.value)
        return [*base, node.attr] if base else []
    return []
