"""The cloudpickle that Beam pickles functions with.

Each copy of cloudpickle knows its own classes only: a class of the user's main script that came with a function is the
same class in a value, an error or a handle only if one copy has pickled them all.
"""

from __future__ import annotations

import sys
from typing import Any

from apache_beam.internal.cloudpickle_pickler import cloudpickle

_dumps = cloudpickle.dumps
# A package of its own beside Beam 2.61, a module of Beam's later.
_came = getattr(cloudpickle, "cloudpickle", cloudpickle)._DYNAMIC_CLASS_TRACKER_BY_ID


def dumps(value: Any) -> bytes:
    """A value as bytes that ``pickle.loads`` takes, classes and functions of the main script included.

    Raises:
        Exception: what the value itself, or cloudpickle, has against that.
    """
    return bytes(_dumps(value))


def name_classes_of_main() -> None:
    """Puts the classes of the driver's main script that came here with functions into this process's ``__main__``.

    A value of such a class is pickled by the class's name, in state and on its way to other workers. The name has to
    lead to the class here, as it does in the driver.
    """
    main = vars(sys.modules["__main__"])
    for found in list(_came.values()):
        if found.__module__ == "__main__" and "." not in found.__qualname__:
            main.setdefault(found.__qualname__, found)
