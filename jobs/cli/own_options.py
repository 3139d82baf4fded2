"""A job's own options, which Beam's parser meets and does not know."""

from __future__ import annotations

import contextlib
import difflib
import logging
from collections.abc import Iterator
from typing import Any

from sage.jobs.cli.say import say

__all__ = ["own_options_allowed"]

_BEAM = "apache_beam.options.pipeline_options"
_DISCARDS, _MEETS = "Discarding unparseable args", "Unparseable argument"
_NEAR = 0.8  # so near that it is more likely a slip than a name of the job's own


@contextlib.contextmanager
def own_options_allowed() -> Iterator[None]:
    """Has Beam's parser pass over options that it does not know, while the block is open.

    Beam warns of them each time it looks at the options. One line is left where a name is nearly that of an option of
    Beam or SAGE.
    """
    warned: set[str] = set()

    def wanted(record: logging.LogRecord) -> bool:
        if isinstance(record.msg, str) and record.msg.startswith(_DISCARDS):
            args: Any = record.args
            for text in args[0] if isinstance(args, tuple) and args else args or ():
                flag = str(text).partition("=")[0]
                if flag.startswith("--") and flag not in warned:
                    warned.add(flag)
                    _tell_of_slip(flag)
            return False
        return not (isinstance(record.msg, str) and record.msg.startswith(_MEETS))

    logger = logging.getLogger(_BEAM)
    logger.addFilter(wanted)
    try:
        yield
    finally:
        logger.removeFilter(wanted)


def _tell_of_slip(flag: str) -> None:
    from apache_beam.options.pipeline_options import PipelineOptions

    parsers: list[Any] = []
    PipelineOptions([]).get_all_options(add_extra_args_fn=parsers.append)
    known = [text for action in parsers[0]._actions for text in action.option_strings]
    near = difflib.get_close_matches(flag, known, n=1, cutoff=_NEAR)
    if near:
        say(f"warning: {flag} is no option of Beam or SAGE, which pass over it. Did you mean {near[0]}?")
