"""The line of one step in a chain of steps that is written over several lines.

Python says of ``p | read | parse`` that it failed, or was called, where the whole expression begins. Since most
pipelines are one such expression, that line is the same for all their steps and tells nothing.
"""

from __future__ import annotations

import ast
import functools
import itertools
import linecache
from types import CodeType

__all__ = ["operand_line"]


def operand_line(code: CodeType, lasti: int, line: int) -> int:
    """The line where the right operand begins, if the instruction is an operator over several lines.

    Args:
        code: of the frame.
        lasti: the frame's (or the traceback's) instruction offset, ``f_lasti`` or ``tb_lasti`` (bytes).
        line: what Python gives as the line; returned for any other instruction, for source that cannot be read,
            and on Python 3.10, which keeps no columns.
    """
    if not hasattr(code, "co_positions") or lasti < 0:
        return line
    # One entry for each two-byte code unit.
    position = next(itertools.islice(code.co_positions(), lasti // 2, None), None)
    if position is None or None in position or position[0] == position[1]:
        return line
    source = "".join(linecache.getlines(code.co_filename))
    return _right_operands(source).get(position, line)


@functools.lru_cache(maxsize=4)
def _right_operands(source: str) -> dict[tuple[int | None, ...], int]:
    """First line of the right operand, by the place of the operation: line, last line, column, last column."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return {}
    return {
        (node.lineno, node.end_lineno, node.col_offset, node.end_col_offset): node.right.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.BinOp)
    }
