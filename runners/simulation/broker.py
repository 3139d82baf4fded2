"""A broker that is not real: it keeps transactions, and outlives every crash of the job."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sage.runners.simulation.fault_schedule import FaultSchedule


@dataclass
class SimulatedBroker:
    """Transactions by name: open, then committed or aborted for good.

    State: the records of each transaction that is open or committed.
    """

    schedule: FaultSchedule
    open: dict[str, list[Any]] = field(init=False, default_factory=dict)
    committed: dict[str, list[Any]] = field(init=False, default_factory=dict)

    def write(self, transaction: str, records: Sequence[Any]) -> None:
        """Adds records to a transaction; the first of them opens it."""
        self.schedule.point("produce", transaction)
        self.open.setdefault(transaction, []).extend(records)

    def commit(self, transaction: str) -> bool:
        """Makes a transaction's records visible, once; says whether they are."""
        self.schedule.point("commit", transaction)
        if transaction in self.open:
            self.committed[transaction] = self.open.pop(transaction)
        return transaction in self.committed

    def abort(self, prefix: str) -> None:
        """Forgets the open transactions whose names begin like this."""
        self.schedule.point("abort", prefix)
        for transaction in [name for name in self.open if name.startswith(prefix)]:
            del self.open[transaction]

    def read(self) -> Counter[Any]:
        """What a reader of committed records sees: each record, and how often."""
        return Counter(record for records in self.committed.values() for record in records)
