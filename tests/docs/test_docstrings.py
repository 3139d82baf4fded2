"""Examples in docstrings are run, where a module has some."""

from __future__ import annotations

import contextvars
import doctest
import importlib

import pytest

from tests.architecture.tree import sources

WITH_EXAMPLES = [source.module for source in sources() if ">>>" in source.text]


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_the_examples_of_a_module_run(module: str) -> None:
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    found = importlib.import_module(module)
    # In a context of its own: a worker that another test ran here may have said which subtask this is.
    failed, tried = contextvars.Context().run(lambda: doctest.testmod(found, optionflags=options))
    assert tried
    assert not failed
