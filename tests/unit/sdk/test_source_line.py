"""The line of one step in an expression over several lines."""

from __future__ import annotations

import sys

import pytest

from sage.source_line import operand_line


class _Chain:
    """Fails at the third operand."""

    def __init__(self, left: int) -> None:
        self._left = left

    def __or__(self, other: object) -> _Chain:
        if not self._left:
            raise ValueError(other)
        return _Chain(self._left - 1)


def _fail_in_a_chain() -> None:
    (
        _Chain(2)
        | "first"
        | "second"
        | "third".join(
            [],
        )
    )  # fmt: skip


def _fail_in_one_line() -> None:
    _Chain(0) | "first"


def _fail_in_a_call() -> None:
    int(
        "x",
    )


def _line(function) -> tuple[int, int]:
    """The line found, and the line that Python gives, both from the function's first."""
    with pytest.raises(ValueError) as caught:
        function()
    trace = caught.tb
    while trace.tb_frame.f_code is not function.__code__:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    return operand_line(
        code, trace.tb_lasti, trace.tb_lineno
    ) - code.co_firstlineno, trace.tb_lineno - code.co_firstlineno


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 keeps no columns")
def test_an_operator_over_several_lines_is_found_at_its_right_operand():
    assert _line(_fail_in_a_chain) == (5, 2)


@pytest.mark.parametrize("function", [_fail_in_one_line, _fail_in_a_call])
def test_anything_else_stays_where_python_puts_it(function):
    found, given = _line(function)

    assert found == given == 1


def test_source_that_cannot_be_read_changes_nothing():
    code = compile("(1 |\n 'x')", "<nowhere>", "eval")

    assert operand_line(code, 0, 7) == 7
