"""Runs a broker for people: ``make kafka``, or ``python -m tests.kafka``. Ctrl-C ends it and removes its files."""

from __future__ import annotations

import contextlib
import signal
import sys

from tests.kafka.broker import SASL_PASSWORD, SASL_USER, Broker, Unavailable


def main() -> int:
    try:
        broker = Broker().start()
    except Unavailable as error:
        print(error, file=sys.stderr)
        return 1
    print(broker.address, flush=True)
    print(f"SASL PLAIN, {SASL_USER}:{SASL_PASSWORD}: {broker.sasl_address}", file=sys.stderr)
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()
    broker.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
