"""The cloudpickle that Beam pickles functions with.

Each copy of cloudpickle knows its own classes only: a class of the user's main script that came with a function is the
same class in a value, an error or a handle only if one copy has pickled them all.
"""

from __future__ import annotations

from typing import Any

from apache_beam.internal import cloudpickle_pickler

_dumps = cloudpickle_pickler.cloudpickle.dumps


def dumps(value: Any) -> bytes:
    """A value as bytes that ``pickle.loads`` takes, classes and functions of the main script included.

    Raises:
        Exception: what the value itself, or cloudpickle, has against that.
    """
    return bytes(_dumps(value))
