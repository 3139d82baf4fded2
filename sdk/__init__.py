"""SAGE: batch and stream jobs written as Apache Beam pipelines.

    import sage

    env = sage.LocalEnvironment("word count")
    words = env.from_collection(["to be", "or not to be"]).flat_map(str.split)
    words.map(lambda word: (word, 1)).as_keyed().aggregate(sum).sink(print)
    env.execute()

Names are loaded when they are first used, so that ``import sage`` does not wait for Beam.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from apache_beam.pvalue import TaggedOutput as TaggedOutput

    from sage.connected import ConnectedStreams as ConnectedStreams
    from sage.environment import Environment as Environment
    from sage.environment import LocalEnvironment as LocalEnvironment
    from sage.errors import CheckpointError as CheckpointError
    from sage.errors import ConfigError as ConfigError
    from sage.errors import DataLoss as DataLoss
    from sage.errors import InvalidPipeline as InvalidPipeline
    from sage.errors import MissingExtra as MissingExtra
    from sage.errors import SageError as SageError
    from sage.errors import StepError as StepError
    from sage.errors import UnsupportedFeature as UnsupportedFeature
    from sage.errors import WorkerLost as WorkerLost
    from sage.functions import CoFlatMapFunction as CoFlatMapFunction
    from sage.functions import CoMapFunction as CoMapFunction
    from sage.functions import FilterFunction as FilterFunction
    from sage.functions import FlatMapFunction as FlatMapFunction
    from sage.functions import MapFunction as MapFunction
    from sage.functions import ReduceFunction as ReduceFunction
    from sage.functions import SinkFunction as SinkFunction
    from sage.functions import SourceFunction as SourceFunction
    from sage.handle import JobHandle as JobHandle
    from sage.handle import JobState as JobState
    from sage.handle import Vitals as Vitals
    from sage.keyed import KeyedContext as KeyedContext
    from sage.keyed import KeyedCoProcessFunction as KeyedCoProcessFunction
    from sage.keyed import KeyedProcessFunction as KeyedProcessFunction
    from sage.options import SageOptions as SageOptions
    from sage.runtime import RuntimeContext as RuntimeContext
    from sage.sources import Batch as Batch
    from sage.sources import ReadStream as ReadStream
    from sage.sources import SplitReader as SplitReader
    from sage.sources import StreamSource as StreamSource
    from sage.state import AggregatingState as AggregatingState
    from sage.state import ListState as ListState
    from sage.state import MapState as MapState
    from sage.state import ReducingState as ReducingState
    from sage.state import SetState as SetState
    from sage.state import ValueState as ValueState
    from sage.streams import KeyedStream as KeyedStream
    from sage.streams import Stream as Stream
    from sage.submission import SubmittedJob as SubmittedJob
    from sage.transactions import BatchSink as BatchSink
    from sage.transactions import Deferred as Deferred
    from sage.transactions import SinkContext as SinkContext
    from sage.transactions import TransactionalDoFn as TransactionalDoFn
    from sage.windows import GlobalWindow as GlobalWindow
    from sage.windows import SessionWindows as SessionWindows
    from sage.windows import SlidingWindows as SlidingWindows
    from sage.windows import TumblingWindows as TumblingWindows

__version__ = "0.1.0"

_EXPORTS = {
    "apache_beam.pvalue": ("TaggedOutput",),
    "sage.connected": ("ConnectedStreams",),
    "sage.environment": ("Environment", "LocalEnvironment"),
    "sage.errors": (
        "CheckpointError",
        "ConfigError",
        "DataLoss",
        "InvalidPipeline",
        "MissingExtra",
        "SageError",
        "StepError",
        "UnsupportedFeature",
        "WorkerLost",
    ),
    "sage.functions": (
        "CoFlatMapFunction",
        "CoMapFunction",
        "FilterFunction",
        "FlatMapFunction",
        "MapFunction",
        "ReduceFunction",
        "SinkFunction",
        "SourceFunction",
    ),
    "sage.handle": ("JobHandle", "JobState", "Vitals"),
    "sage.keyed": ("KeyedCoProcessFunction", "KeyedContext", "KeyedProcessFunction"),
    "sage.options": ("SageOptions",),
    "sage.runtime": ("RuntimeContext",),
    "sage.sources": ("Batch", "ReadStream", "SplitReader", "StreamSource"),
    "sage.state": ("AggregatingState", "ListState", "MapState", "ReducingState", "SetState", "ValueState"),
    "sage.streams": ("KeyedStream", "Stream"),
    "sage.submission": ("SubmittedJob",),
    "sage.transactions": ("BatchSink", "Deferred", "SinkContext", "TransactionalDoFn"),
    "sage.windows": ("GlobalWindow", "SessionWindows", "SlidingWindows", "TumblingWindows"),
}
_MODULE_OF = {name: module for module, names in _EXPORTS.items() for name in names}

__all__ = sorted(_MODULE_OF)


_RENAMED = {"BulkSink": "BatchSink", "Later": "Deferred"}


def __getattr__(name: str) -> Any:
    if name in _RENAMED:
        from sage.deprecated import warn_renamed

        warn_renamed(f"sage.{name}", f"sage.{_RENAMED[name]}")
        name = _RENAMED[name]
    if name in _MODULE_OF:
        value = getattr(importlib.import_module(_MODULE_OF[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'sage' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
