"""The two keyed steps: by order, what was paid for it; by customer, the account.

Both gather first and work when a timer says that all up to its time has come. So what they give does not depend on
the order in which events arrive.
"""

# Annotations are evaluated here, not postponed: Beam reads them as type hints.
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam.coders import PickleCoder, VarIntCoder
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.utils.timestamp import Timestamp

from sage.jobs.orders.model import Alert, CustomerTotal, Order, Payment, Settlement

__all__ = ["ALERTS", "Accounts", "Settle"]

ALERTS = "alerts"


def _at(ms: int) -> Timestamp:
    return Timestamp(micros=ms * 1_000)


class Settle(beam.DoFn):
    """Joins an order with what was paid for it in the time it had.

    Input: ``(order id, Order or Payment)``. Output: `Settlement`, when the time is over.

    State, by order: the events until they are settled, and when that is (an event timer).

    Args:
        within_ms: how long an order may be paid (ms).
    """

    EVENTS = BagStateSpec("events", PickleCoder())
    DUE = ReadModifyWriteStateSpec("due", VarIntCoder())
    OVER = TimerSpec("over", TimeDomain.WATERMARK)

    def __init__(self, within_ms: int) -> None:
        self.within_ms = within_ms

    def process(
        self,
        element: tuple[str, Any],
        events: Any = beam.DoFn.StateParam(EVENTS),
        due: Any = beam.DoFn.StateParam(DUE),
        over: Any = beam.DoFn.TimerParam(OVER),
    ) -> None:
        _, event = element
        events.add(event)
        self._wait(event.at_ms + self.within_ms, due, over)

    def _wait(self, until_ms: int, due: Any, over: Any) -> None:
        known = due.read()
        if known is None or until_ms < known:
            due.write(until_ms)
            over.set(_at(until_ms))

    @on_timer(OVER)
    def settle(
        self,
        events: Any = beam.DoFn.StateParam(EVENTS),
        due: Any = beam.DoFn.StateParam(DUE),
        over: Any = beam.DoFn.TimerParam(OVER),
    ) -> Iterator[Settlement]:
        now, waiting = due.read(), list(events.read())
        events.clear()
        due.clear()
        ended = [event for event in waiting if isinstance(event, Order) and event.at_ms + self.within_ms <= now]
        paid = [event for event in waiting if isinstance(event, Payment)]
        if ended:
            in_time = [payment for payment in paid if payment.at_ms <= now]
            yield _settled(ended[0], sum(payment.amount for payment in in_time), now)
        else:
            in_time = [payment for payment in paid if payment.at_ms + self.within_ms <= now]
            for payment in sorted(in_time):
                yield Settlement(payment.order_id, payment.customer, 0, payment.amount, "unmatched", now)
        for event in waiting:
            if event not in in_time and event not in ended:
                events.add(event)
                self._wait(event.at_ms + self.within_ms, due, over)


def _settled(order: Order, paid: int, now: int) -> Settlement:
    status = "paid" if paid == order.amount else "unpaid" if not paid else "under" if paid < order.amount else "over"
    status = status if status.endswith("paid") else f"{status}paid"
    return Settlement(order.order_id, order.customer, order.amount, paid, status, now)


class Accounts(beam.DoFn):
    """Keeps the account of each customer, and says what stands out.

    Input: ``(customer, Settlement)``. Output: `CustomerTotal` at the end of each period in which something changed;
    tagged `ALERTS`: `Alert`.

    State, by customer: settlements of the period, and the account since the beginning.

    Args:
        period_ms: how often (ms of event time) an account is brought up to date.
        unpaid_in_row: how many unpaid orders in a row are an alert (count).
        quiet_ms: an alert is given when a customer has not settled anything for so long (ms of event time).
    """

    PENDING = BagStateSpec("pending", PickleCoder())
    DUE = ReadModifyWriteStateSpec("due", VarIntCoder())
    ACCOUNT = ReadModifyWriteStateSpec("account", PickleCoder())
    TICK = TimerSpec("tick", TimeDomain.WATERMARK)
    QUIET = TimerSpec("quiet", TimeDomain.WATERMARK)

    def __init__(self, period_ms: int, unpaid_in_row: int, quiet_ms: int) -> None:
        self.period_ms = period_ms
        self.unpaid_in_row = unpaid_in_row
        self.quiet_ms = quiet_ms

    def process(
        self,
        element: tuple[str, Settlement],
        pending: Any = beam.DoFn.StateParam(PENDING),
        due: Any = beam.DoFn.StateParam(DUE),
        tick: Any = beam.DoFn.TimerParam(TICK),
    ) -> None:
        _, settlement = element
        pending.add(settlement)
        self._wait(settlement, due, tick)

    def _wait(self, settlement: Settlement, due: Any, tick: Any) -> None:
        end = settlement.closed_ms - settlement.closed_ms % self.period_ms + self.period_ms
        known = due.read()
        if known is None or end < known:
            due.write(end)
            tick.set(_at(end))

    @on_timer(TICK)
    def update_account(
        self,
        customer: Any = beam.DoFn.KeyParam,
        pending: Any = beam.DoFn.StateParam(PENDING),
        due: Any = beam.DoFn.StateParam(DUE),
        account: Any = beam.DoFn.StateParam(ACCOUNT),
        tick: Any = beam.DoFn.TimerParam(TICK),
        quiet: Any = beam.DoFn.TimerParam(QUIET),
    ) -> Iterator[Any]:
        now, waiting = due.read(), sorted(pending.read(), key=lambda found: (found.closed_ms, found.order_id))
        pending.clear()
        due.clear()
        orders, paid, unpaid, in_row = account.read() or (0, 0, 0, 0)
        last_ms = 0
        for settlement in waiting:
            if settlement.closed_ms >= now:
                pending.add(settlement)
                self._wait(settlement, due, tick)
                continue
            last_ms = settlement.closed_ms
            paid += settlement.paid
            if settlement.status == "unmatched":
                yield _alert(customer, "unmatched", f"{settlement.paid} paid for {settlement.order_id}", last_ms)
                continue
            orders += 1
            unpaid += max(settlement.amount - settlement.paid, 0)
            in_row = in_row + 1 if settlement.status == "unpaid" else 0
            if in_row == self.unpaid_in_row:
                yield _alert(customer, "unpaid", f"{in_row} orders in a row", last_ms)
        account.write((orders, paid, unpaid, in_row))
        quiet.set(_at(last_ms + self.quiet_ms))
        yield CustomerTotal(customer, orders, paid, unpaid, now)

    @on_timer(QUIET)
    def gone_quiet(
        self,
        customer: Any = beam.DoFn.KeyParam,
        at: Any = beam.DoFn.TimestampParam,
        pending: Any = beam.DoFn.StateParam(PENDING),
    ) -> Iterator[Any]:
        now = at.micros // 1_000
        if all(settlement.closed_ms >= now for settlement in pending.read()):
            yield _alert(customer, "quiet", f"nothing for {self.quiet_ms // 1_000} s", now)


def _alert(customer: str, kind: str, detail: str, at_ms: int) -> Any:
    return beam.pvalue.TaggedOutput(ALERTS, Alert(customer, kind, detail, at_ms))
