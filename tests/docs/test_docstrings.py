"""Examples in docstrings are run, where a module has some."""

from __future__ import annotations

import doctest
import importlib

import pytest

from tests.architecture.tree import sources

WITH_EXAMPLES = [source.module for source in sources() if ">>>" in source.text]


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_the_examples_of_a_module_run(module: str) -> None:
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    failed, tried = doctest.testmod(importlib.import_module(module), optionflags=options)
    assert tried
    assert not failed
