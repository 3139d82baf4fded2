"""A process that has imported Beam and the engine and waits: a worker is a fork of it.

Forking the user's own process would copy its threads' locks; starting Python anew costs more than a second for
each worker. The zygote is clean, started once, and each fork takes milliseconds.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from multiprocessing.connection import Connection

from sage.errors import WorkerLost

# What Beam complains of while it is imported, the driver has heard already.
_START = "import logging; logging.disable(logging.WARNING); from sage.runners.local.zygote import main"
_lock = threading.Lock()
_zygote: Zygote | None = None


class Zygote:
    """The driver's side: asks for forks."""

    def __init__(self) -> None:
        mine, theirs = socket.socketpair()
        self.owner = os.getpid()
        self._socket = mine
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"{_START}; main({theirs.fileno()})"],
            pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL,
        )  # fmt: skip
        theirs.close()

    @property
    def alive(self) -> bool:
        """Whether it can still fork, and for this process."""
        return self.owner == os.getpid() and self._process.poll() is None

    def fork(self, descriptors: list[int]) -> int:
        """Forks a worker that gets these descriptors; returns its process id.

        The first descriptor is its control connection, the others those to its peers, in order.
        """
        try:
            socket.send_fds(self._socket, [struct.pack("!I", len(descriptors))], descriptors)
            data = self._socket.recv(4)
        except OSError as error:
            raise WorkerLost("the process that starts workers is gone") from error
        if len(data) < 4:
            raise WorkerLost("the process that starts workers is gone")
        return int(struct.unpack("!I", data)[0])

    def close(self) -> None:
        """Lets the zygote end; its workers are not touched."""
        if self.owner == os.getpid():
            self._socket.close()
            self._process.wait()


def zygote() -> Zygote:
    """The zygote of this process, started when first asked for."""
    global _zygote
    with _lock:
        if _zygote is None or not _zygote.alive:
            _zygote = Zygote()
            atexit.register(_zygote.close)
        return _zygote


def main(descriptor: int) -> None:
    """The zygote's side: forks on request until the driver is gone."""
    from sage.runners.local.worker import work

    logging.disable(logging.NOTSET)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides what Ctrl-C means
    # And what it means that the whole group is asked to end. A program that a step starts has the default again.
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies: the driver sees a dead worker's socket close
    control = socket.socket(fileno=descriptor)
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 4, 256)
        if not message:
            return
        pid = os.fork()
        if pid == 0:
            control.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))
            status = 1
            try:
                work(Connection(descriptors[0]), [Connection(fd) for fd in descriptors[1:]])
                status = 0
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        for fd in descriptors:
            os.close(fd)
        control.send(struct.pack("!I", pid))
