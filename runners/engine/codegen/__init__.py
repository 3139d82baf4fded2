"""The compiled way: a fused chain of plain steps as one Python function of nested loops.

Each output passes through the whole chain before the next is pulled, as on Beam's own runners. The general
operators of the same steps stay beside the function: they take what is not plain, element by element.
"""

from __future__ import annotations

from sage.runners.engine.codegen.entry import compile_stage

__all__ = ["compile_stage"]
