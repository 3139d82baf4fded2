"""The cloudpickle that Beam pickles functions with.

Each copy of cloudpickle knows its own classes only: a class of the user's main script that came with a function is the
same class in a value, an error or a handle only if one copy has pickled them all.
"""

from __future__ import annotations

import contextlib
import copyreg
import dataclasses
import pickle
import sys
import types
from collections.abc import Iterable
from typing import Any

from apache_beam.internal.cloudpickle_pickler import cloudpickle

_dumps = cloudpickle.dumps
# What dataclasses tells by identity goes by its name: the cloudpickle of Beam 2.61 makes copies, and a dataclass of the
# main script that has come back then has no fields. (Its class in the driver is changed with it.)
copyreg.pickle(type(dataclasses._FIELD), lambda kind: kind.name)  # type: ignore[attr-defined]
copyreg.pickle(type(dataclasses.MISSING), lambda missing: "MISSING")
# A package of its own beside Beam 2.61, a module of Beam's later.
_module = getattr(cloudpickle, "cloudpickle", cloudpickle)
_came = _module._DYNAMIC_CLASS_TRACKER_BY_ID
# A class that comes with a function is known by a random identifier: a test that pins ``uuid.uuid4`` would have one
# class taken for another.
_module.uuid = types.SimpleNamespace(uuid4=_module.uuid.uuid4)


def dumps(value: Any) -> bytes:
    """A value as bytes that ``pickle.loads`` takes, classes and functions of the main script included.

    Raises:
        Exception: what the value itself, or cloudpickle, has against that.
    """
    return bytes(_dumps(value))


def classes_of_main() -> tuple[bytes, ...]:
    """The classes that the driver's main script has made, each pickled by value; those that cannot be are left out."""
    made = []
    for found in vars(sys.modules["__main__"]).values():
        if isinstance(found, type) and found.__module__ == "__main__":
            with contextlib.suppress(Exception):
                made.append(dumps(found))
    return tuple(made)


def name_classes_of_main(sent: Iterable[bytes] = ()) -> None:
    """Puts the classes of the driver's main script into this process's ``__main__``: those sent, and those that came
    with functions.

    A value of such a class is pickled by the class's name, in state and on its way to other workers. The name has to
    lead to the class here, as it does in the driver.
    """
    came = []
    for each in sent:
        with contextlib.suppress(Exception):  # a job that needs it says so
            came.append(pickle.loads(each))
    main = vars(sys.modules["__main__"])
    for found in [*came, *_came.values()]:
        if found.__module__ == "__main__" and "." not in found.__qualname__:
            main.setdefault(found.__qualname__, found)
