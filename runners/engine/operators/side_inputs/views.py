"""Views: side inputs as steps read them, one for each window of the main input."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from apache_beam import coders
from apache_beam.portability import common_urns
from apache_beam.transforms import sideinputs
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.trigger import AfterCount, AfterProcessingTime, DefaultTrigger, Repeatedly
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from sage.runners.engine.core import spec
from sage.runners.engine.core.blocks import MAX_MICROS, MIN_MICROS, Block
from sage.runners.engine.core.deadlines import DeadlineQueue
from sage.runners.engine.core.keys import KeyIds, key_coder
from sage.runners.engine.operators.base.context import TaskContext
from sage.runners.engine.operators.grouping.pane_contents import NOTHING, BufferedValues
from sage.runners.engine.operators.grouping.pane_snapshots import pack_states, unpack_states
from sage.runners.engine.operators.grouping.rows import KeyedRows
from sage.runners.engine.operators.grouping.trigger_runner import KeyWindows, TriggerRunner
from sage.runners.engine.serde.values import Codec
from sage.runners.engine.serde.windows import WindowForms

_MULTIMAP = common_urns.side_inputs.MULTIMAP.urn
_CONTINUES = hasattr(AfterProcessingTime, "get_continuation_trigger")  # Beam 2.61 has a grouping keep its trigger


class _Multimap(Mapping):  # type: ignore[type-arg]
    """Key to values, by key identity; a key that is not there has no values."""

    def __init__(self, ids: KeyIds, pairs: Iterable[Any]) -> None:
        self._ids = ids
        self._values: dict[Any, list[Any]] = {}
        self._keys: dict[Any, Any] = {}
        for key, value in pairs:
            identity = ids.of(key)
            self._keys.setdefault(identity, key)
            self._values.setdefault(identity, []).append(value)

    def __getitem__(self, key: Any) -> list[Any]:
        return self._values.get(self._ids.of(key), [])

    def __iter__(self) -> Iterator[Any]:
        return iter(self._keys.values())

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: object) -> bool:
        return self._ids.of(key) in self._values


def make_view(side: spec.SideInput, context: TaskContext) -> SideView:
    """The view of a side input of a task."""
    collection = context.collections[side.collection]
    if collection.bounded or _settles(collection.windowing):
        return SideView(side, collection)
    return RefreshedView(side, collection, context)


def _settles(windowing: Any) -> bool:
    """Whether each window comes to an end at which its trigger fires: what reads it waits for that."""
    if isinstance(windowing.windowfn, GlobalWindows):
        return isinstance(windowing.triggerfn, DefaultTrigger)
    return bool(windowing.triggerfn.has_ontime_pane())


class SideView:
    """One side input as Beam's DoFnRunner reads it: ``view[window of the main input]``.

    It can be read when the side input's watermark has passed its window.

    State: the values of each of its own windows; the views built of them; the side input's watermark; whether a window
    was forgotten.
    """

    def __init__(self, side: spec.SideInput, collection: spec.Collection) -> None:
        self._data = side.data
        self._name = collection.name
        self._ids = KeyIds(key_coder(collection.coder))
        self._values: dict[Any, list[Any]] = {}
        self._views: dict[Any, Any] = {}
        self._ends = DeadlineQueue()
        self.watermark = MIN_MICROS
        self.forgot = False
        self._codec = Codec(coders.FastPrimitivesCoder(), collection.coder)
        self._packed: dict[Any, bytes] = {}
        self._forms = WindowForms(collection.windowing.windowfn)

    def settle(self) -> bool:
        """The bundle ends in which values came; whether a window can be read that could not."""
        return False

    def add(self, block: Block) -> bool:
        """Takes values of the side collection; whether a window can be read that could not."""
        for value, windows in block.windowed():
            for window in windows:
                found = self._values.get(window)
                if found is None:
                    self._show(window, [value])
                else:
                    found.append(value)
                    if window in self._views or window in self._packed:
                        self._show(window, found)
        return False

    def _show(self, window: Any, values: list[Any]) -> None:
        """These are the values of a window from now on."""
        self._values[window] = values
        self._ends.set(window, int(window.max_timestamp().micros))
        self._views.pop(window, None)
        self._packed.pop(window, None)

    def advance(self, watermark: int) -> None:
        """The side input's watermark (microseconds) moved on."""
        self.watermark = watermark

    def wakeup(self) -> int | None:
        """The processing time (microseconds) at which `wake` wants to be called, if any."""
        return None

    def wake(self) -> None:
        """Takes in what the clock made ready."""

    def ready(self, window: Any) -> bool:
        """Whether the view for a window of the main input can be read."""
        return self.watermark >= MAX_MICROS or self._ready(self._data.window_mapping_fn(window))

    def _ready(self, target: Any) -> bool:
        return self._over(target)

    def _over(self, target: Any) -> bool:
        return bool(self.watermark > target.max_timestamp().micros)

    def __getitem__(self, window: Any) -> Any:
        target = self._data.window_mapping_fn(window)
        if target not in self._views:
            values = self._values.get(target, [])
            if self._data.access_pattern == _MULTIMAP:
                raw: Any = _Multimap(self._ids, values)
            else:
                raw = list(values)
            self._views[target] = self._seen(raw)
            self._ends.set(target, int(target.max_timestamp().micros))
        return self._views[target]

    def _seen(self, raw: Any) -> Any:
        try:
            return self._data.view_fn(raw)
        except Exception as error:
            if len(error.args) == 1:
                error.args = (f"{error} (in the side input that '{self._name}' makes)",)
            raise

    def is_globally_windowed(self) -> bool:
        """Whether every main window reads the same view, which never changes."""
        return bool(self._data.window_mapping_fn == sideinputs._global_window_mapping_fn)

    def settled(self, window: Any) -> bool:
        """Whether the side input's watermark has passed what a window of the main input reads: nothing waits for it."""
        return self.watermark >= MAX_MICROS or self._over(self._data.window_mapping_fn(window))

    def expire(self, watermark: int, settled: Callable[[Any], bool]) -> None:
        """Forgets the windows that end before ``watermark`` (microseconds) and for which nothing waits any more."""
        while (end := self._ends.earliest()) is not None and end < watermark:
            windows = self._ends.pop_due(end)
            if not all(map(settled, windows)):
                for window in windows:
                    self._ends.set(window, end)
                return
            self.forgot = True
            for window in windows:
                self._forget(window)

    def gone(self, window: Any, watermark: int) -> bool:
        """Whether what a window of the main input reads was forgotten at a watermark (microseconds)."""
        return bool(self._data.window_mapping_fn(window).max_timestamp().micros < watermark)

    def _forget(self, window: Any) -> None:
        for table in (self._values, self._views, self._packed):
            table.pop(window, None)

    def snapshot(self) -> Any:
        """What is held, as a plain value; what did not change since the last call is not encoded again."""
        for window, values in self._values.items():
            if window not in self._packed:
                self._packed[window] = self._codec.pack_values(values)
        rows = [(self._forms.form(window), self._packed[window]) for window in self._values]
        return self.watermark, self.forgot, rows

    def restore(self, packed: Any) -> None:
        """Takes back what `snapshot` gave."""
        self.watermark, self.forgot, rows = packed
        for form, data in rows:
            self._show(self._forms.window(form), self._codec.unpack_values(data))


class _Latest(BufferedValues):
    """Holds the latest value only."""

    def add(self, contents: Any, values: list[Any]) -> Any:
        return values[-1:]

    def merged(self, parts: list[Any]) -> Any:
        return parts[-1]


class _LatestByKey(BufferedValues):
    """Holds the latest value of each key only."""

    def add(self, contents: Any, values: list[Any]) -> Any:
        if contents is NOTHING:
            return dict(values)
        contents.update(values)
        return contents

    def merged(self, parts: list[Any]) -> Any:
        return {key: value for part in parts for key, value in part.items()}

    def result(self, contents: Any) -> Any:
        return [] if contents is NOTHING else list(contents.items())

    def retained(self, contents: Any) -> Any:
        return dict(contents)

    def to_list(self, contents: Any) -> list[Any]:
        return self.result(contents)

    def from_list(self, values: list[Any]) -> Any:
        return dict(values) if values else NOTHING


class RefreshedView(SideView):
    """A side input that changes while it is read: whenever its trigger fires, the pane takes the place of the last one.

    It can be read from the first pane on. A pane of an accumulating side input has all that there was so far; of that,
    a singleton is the latest value, and a dictionary has the latest value of each key.

    State: beside the view's, the elements that no pane has taken for good, and those that came in the open bundle.
    """

    def __init__(self, side: spec.SideInput, collection: spec.Collection, context: TaskContext) -> None:
        super().__init__(side, collection)
        self._clock = context.clock
        self._holding = _holding_of(side.data)
        self._driver = TriggerRunner(_once_gathered(collection), context.clock, self._holding)
        self._all = KeyWindows()
        self._clocks = DeadlineQueue()
        self._rows = KeyedRows(collection, collection.coder)
        self._came: list[Any] = []

    def add(self, block: Block) -> bool:
        self._came += _elements(block)
        return False

    def settle(self) -> bool:
        known = len(self._values)
        came, self._came = self._came, []
        if came:
            self._take(self._driver.process(self._all, came, Timestamp(micros=self.watermark)))
        return len(self._values) > known

    def advance(self, watermark: int) -> None:
        self.watermark = watermark
        self._fire(None)
        states = list(self._all.windows.values())
        self._take(self._driver.close(states, Timestamp(micros=watermark), watermark >= MAX_MICROS))

    def wakeup(self) -> int | None:
        return self._clocks.earliest()

    def wake(self) -> None:
        self._fire(self._clock.now_micros())

    def _fire(self, now: int | None) -> None:
        driver, watermark = self._driver, Timestamp(micros=self.watermark)
        while due := driver.due(list(self._all.windows.values()), self.watermark, now):
            for window, domain, at in due:
                fire_at = watermark if domain == TimeDomain.REAL_TIME else at
                self._take(driver.fire(self._all, window, domain, fire_at))

    def _take(self, panes: Iterator[WindowedValue]) -> None:
        for pane in panes:
            for window in pane.windows:
                # An empty pane on time says only that there was nothing more.
                if pane.value or window not in self._values:
                    self._show(window, list(pane.value))
        for state in self._driver.touched:
            self._clocks.set(state, state.clock_timer() if self._all.has(state) else None)
        self._driver.touched.clear()

    def _ready(self, target: Any) -> bool:
        return target in self._values or super()._ready(target)

    def is_globally_windowed(self) -> bool:
        return False  # who is told so reads a view once and for all

    def _forget(self, window: Any) -> None:
        super()._forget(window)
        state = self._all.windows.pop(window, None)
        if state is not None:
            self._clocks.set(state, None)

    def snapshot(self) -> Any:
        states = list(self._all.windows.values())
        return super().snapshot(), pack_states(self._rows, self._forms, self._holding, states)

    def restore(self, packed: Any) -> None:
        values, states = packed
        super().restore(values)
        for _, _, state in unpack_states(self._rows, self._forms, self._holding, states, None):
            state.key = self._all
            self._all.windows[state.window] = state
            self._clocks.set(state, state.clock_timer())


def _elements(block: Block) -> Iterator[tuple[Any, Timestamp, Any]]:
    return ((value, stamp, windows) for value, stamp, windows, _ in block.rows())


def _once_gathered(collection: spec.Collection) -> Any:
    """The windowing of a side input: behind a grouping that fires by the clock, what comes at once is one pane.

    Beam's trigger for that place fires "at the runner's discretion"; at each bundle would show parts of panes. Beam
    2.61 has no trigger for that place: there, what was counted for a pane is not counted again.
    """
    windowing = collection.windowing
    trigger = windowing.triggerfn
    if isinstance(trigger, Repeatedly) and (_CONTINUES or collection.fired):
        windowing = copy.copy(windowing)
        windowing.triggerfn = Repeatedly(_continued(trigger.underlying))
    return windowing


def _continued(trigger: Any) -> Any:
    if _CONTINUES:
        by_clock = trigger == AfterProcessingTime().get_continuation_trigger()
    else:
        by_clock = isinstance(trigger, AfterProcessingTime)
        if isinstance(trigger, AfterCount):
            return AfterCount(1)
    return AfterProcessingTime(0) if by_clock else trigger


def _holding_of(data: Any) -> BufferedValues:
    if data.view_fn is dict:
        return _LatestByKey()
    if data.access_pattern == _MULTIMAP:
        return BufferedValues()
    try:
        data.view_fn([("a", 0), ("b", 0)])
    except ValueError:  # a singleton refuses two
        return _Latest()
    except Exception:
        pass
    return BufferedValues()


def dump_views(views: Iterable[SideView], inner: bytes | None) -> bytes:
    """What all views of a step hold, with what the root behind them holds equally everywhere."""
    return pickle.dumps(([view.snapshot() for view in views], inner), 5)
