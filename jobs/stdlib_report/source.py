"""What one Python source file says about itself: its text, its words, its imports. Plain functions, no Beam."""

from __future__ import annotations

import ast
import gc
import io
import keyword
import re
import tokenize
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["Import", "SourceFile", "count_words", "decode", "find_imports", "module_name", "parse"]


class SourceFile(NamedTuple):
    """A decoded file.

    Attributes:
        path: its path below the root of the tree, with ``/``.
        module: the dotted name that it is imported by.
        text: its text.
    """

    path: str
    module: str
    text: str


class Import(NamedTuple):
    """A module that a file imports.

    Attributes:
        module: its dotted name.
        importer: the path of the importing file, below the root.
        certain: False for ``b`` of ``from a import b``, which is a module only if somebody defines ``a.b``.
    """

    module: str
    importer: str
    certain: bool


def module_name(path: str) -> str:
    """``json/decoder.py`` is ``json.decoder``; ``json/__init__.py`` is ``json``."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def decode(raw: bytes) -> str:
    """The text of a source file, by its byte order mark or coding line, else as UTF-8.

    Raises:
        SyntaxError: the coding line names no encoding that Python knows.
        UnicodeDecodeError: the bytes are not in the encoding.
    """
    encoding, _ = tokenize.detect_encoding(io.BytesIO(raw).readline)
    return raw.decode(encoding)


# Comments and strings. Each alternative begins with a character of its own, so that a scan over code is quick; and a
# string is "plain run, then (one odd thing, plain run) repeated", since a repeat inside a repeat costs quadratic time.
_PROSE = re.compile(
    r"""(\#[^\n]*
       |"(?:""[^"\\]*(?:(?:\\.|"(?!""))[^"\\]*)*\"\"\"|[^"\\\n]*(?:\\.[^"\\\n]*)*")
       |'(?:''[^'\\]*(?:(?:\\.|'(?!''))[^'\\]*)*'''|[^'\\\n]*(?:\\.[^'\\\n]*)*'))""",
    re.VERBOSE | re.DOTALL,
)
# A name, but not the prefix of a string; the quote there is the one that `count_words` joins the code with.
_NAME = re.compile(r'\b(?![rRbBfFuU]{1,2}")[^\W\d]\w*')
_WORD = re.compile(r"\b[^\W\d_]{2,}\b")


def count_words(text: str) -> Counter[tuple[str, str]]:
    """How often each word stands in a source text, by ``(kind, word)``.

    Kinds: ``keyword`` and ``name`` for what stands in code, ``word`` for the words of comments, docstrings and
    other strings (two letters or more, in lower case). What stands inside the braces of an f-string counts as string.
    """
    pieces = _PROSE.split(text)
    names = Counter(_NAME.findall('"'.join(pieces[::2])))
    words = Counter(_WORD.findall(" ".join(pieces[1::2]).lower()))
    counts = Counter({("keyword" if keyword.iskeyword(name) else "name", name): n for name, n in names.items()})
    counts.update({("word", word): n for word, n in words.items()})
    return counts


def parse(file: SourceFile) -> ast.Module:
    """The syntax tree of a file.

    Raises:
        SyntaxError: it is not Python, or not the Python of this interpreter.
        ValueError: it holds null bytes.
        RecursionError, MemoryError: it is nested too deeply for the parser.
    """
    # A tree is thousands of new objects and no garbage: without the collector's rounds, parsing takes 0.6 of the time.
    collecting = gc.isenabled()
    gc.disable()
    try:
        with warnings.catch_warnings():
            # Old escapes and the like are the files' own business, not for whoever runs the report.
            warnings.simplefilter("ignore")
            return ast.parse(file.text, filename=file.path)
    except SyntaxError as error:
        # The line is an attribute, which is lost where an error is passed on as text.
        raise SyntaxError(f"{error.msg} (line {error.lineno})") from error
    finally:
        if collecting:
            gc.enable()


def find_imports(file: SourceFile, tree: ast.Module) -> list[Import]:
    """The modules that a file imports anywhere in it, each once, relative ones by their full names."""
    found: dict[str, bool] = {}
    for statement in _statements(tree):
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                found[alias.name] = True
        elif isinstance(statement, ast.ImportFrom):
            base = _absolute(file, statement)
            if base is None:
                continue
            found[base] = True
            for alias in statement.names:
                if alias.name != "*":
                    found.setdefault(f"{base}.{alias.name}", False)
    return [Import(module, file.path, certain) for module, certain in found.items()]


def _statements(tree: ast.Module) -> Iterator[ast.stmt]:
    """All statements of a file. An import is never inside an expression, and those are most of a tree."""
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        for field in ("body", "orelse", "finalbody", "handlers", "cases"):
            children = getattr(node, field, None)
            # A lambda and an ``a if b else c`` have a body too, which is no list.
            if isinstance(children, list):
                pending.extend(children)
        if isinstance(node, ast.stmt):
            yield node


def _absolute(file: SourceFile, statement: ast.ImportFrom) -> str | None:
    """The full name that ``from X import ...`` imports from; None if it climbs above the root."""
    if not statement.level:
        return statement.module
    package = file.module.split(".")
    is_package = file.path.endswith("/__init__.py")
    climb = statement.level - 1 if is_package else statement.level
    if climb >= len(package):
        return None
    base = package[: len(package) - climb]
    return ".".join([*base, statement.module] if statement.module else base)
