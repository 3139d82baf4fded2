"""A process that has imported Beam and the engine and waits: a worker is a fork of it.

Forking the user's own process would copy its threads' locks; starting Python anew costs more than a second for
each worker. The zygote is clean, started once, and each fork takes milliseconds. It is started as soon as it is known
that there will be workers, so that it imports Beam while the driver is at work. It ends with the driver.
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
from sage.importing import importing

_ASKED = {signal.SIGINT, signal.SIGTERM}
_lock = threading.Lock()
_zygote: Zygote | None = None


def prepare() -> None:
    """Starts the zygote, unless there is one: there will be workers. Does not wait for it."""
    with _lock:
        _present()


def fork(descriptors: list[int]) -> int:
    """Forks a worker that gets these descriptors; returns its process id.

    The first descriptor is its control connection, the others those to its peers, in order.

    Raises:
        WorkerLost: the zygote was killed.
    """
    with _lock:
        return _present().fork(descriptors)


def _present() -> Zygote:
    global _zygote
    if _zygote is None or not _zygote.fits:
        if _zygote is None:
            atexit.register(_close)
        else:
            _zygote.close()
        _zygote = Zygote()
    return _zygote


def _close() -> None:
    if _zygote is not None:
        _zygote.close()


class Zygote:
    """The driver's side: asks for forks.

    State: the environment that workers get; whether one was asked for; whether an answer is due.
    """

    def __init__(self) -> None:
        mine, theirs = socket.socketpair()
        self._owner = os.getpid()
        self._environment = dict(os.environ)
        self._used = self._asking = False
        self._socket = mine
        begin = f"from sage.runners.local.zygote import main; main({theirs.fileno()})"
        # What a terminal sends to all its processes is for the driver, also while Python starts here.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _ASKED)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", begin], pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()

    @property
    def fits(self) -> bool:
        """Whether it can fork, and for this process; before its first worker, also in the environment there is now."""
        able = self._owner == os.getpid() and not self._asking and self._process.poll() is None
        return able and (self._used or self._environment == dict(os.environ))

    def fork(self, descriptors: list[int]) -> int:
        """Forks a worker, when Beam is there: see `fork` of this module."""
        self._used = self._asking = True  # and so it stays where Ctrl-C ends the waiting
        try:
            socket.send_fds(self._socket, [struct.pack("!I", len(descriptors))], descriptors)
            data = self._socket.recv(4)
        except OSError as error:
            raise WorkerLost("the process that starts workers is gone") from error
        if len(data) < 4:
            raise WorkerLost("the process that starts workers is gone")
        self._asking = False
        return int(struct.unpack("!I", data)[0])

    def close(self) -> None:
        """Ends the zygote, which may still import Beam; its workers are not touched."""
        self._socket.close()
        if self._owner == os.getpid():
            self._process.kill()
            self._process.wait()


def main(descriptor: int) -> None:
    """The zygote's side: forks on request until the driver is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides what Ctrl-C means
    # And what it means that the whole group is asked to end. A program that a step starts has the default again.
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies: the driver sees a dead worker's socket close
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ASKED)
    control = socket.socket(fileno=descriptor)
    logging.disable(logging.WARNING)  # what Beam complains of while it is imported, the driver has heard already
    with importing():  # workers share the memory of what no collector looks at
        from sage.runners.local.worker import work
    logging.disable(logging.NOTSET)
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
