"""A broker of Apache Kafka: one node, KRaft, loopback, files in a temporary folder.

`Broker` is one that the caller starts, kills and starts again. `shared` is one for all processes of a test run. Either
lives as long as somebody holds its lease, the write end of a named pipe: the shell around the JVM reads the other end
and kills the JVM when the last writer is gone, however it went.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from tests.patience import patience

__all__ = ["SASL_PASSWORD", "SASL_USER", "Broker", "Unavailable", "jars", "shared"]

_POM = Path(__file__).with_name("pom.xml")
_CACHE = Path(__file__).resolve().parents[2] / "out" / "kafka"
_JAVA = ["java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
_HEAP = "340m"
_CLUSTER = "c2FnZS10ZXN0LWJyb2tlcg"  # any 16 bytes do: there is only this node
_STARTS_WITHIN_S = patience(60.0)
_WATCH = """
cd "$HOME_OF_BROKER" || exit 1
"$@" </dev/null >>broker.out 2>&1 &
echo $! >pid
cat lease >/dev/null
kill -9 $! 2>/dev/null
cd / && rm -rf "$HOME_OF_BROKER"
"""
SASL_USER, SASL_PASSWORD = "ada", "analytical"

_PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},SASL://127.0.0.1:{sasl},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},SASL://127.0.0.1:{sasl}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT
listener.name.sasl.sasl.enabled.mechanisms=PLAIN
listener.name.sasl.plain.sasl.jaas.config=\
 org.apache.kafka.common.security.plain.PlainLoginModule required user_{user}="{password}";
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={home}/log
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
auto.create.topics.enable=false
num.partitions=1
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
group.initial.rebalance.delay.ms=0
transaction.abort.timed.out.transaction.cleanup.interval.ms=500
log.cleaner.enable=false
"""


class Unavailable(Exception):
    """There can be no broker here; the message says what is missing."""


def jars() -> Path:
    """The folder with the broker's jars, fetched with Maven if they are not there yet.

    Raises:
        Unavailable: Java or Maven is missing, or Maven fails.
    """
    missing = [tool for tool in ("java", "mvn") if shutil.which(tool) is None]
    folder = _CACHE / "lib"
    if "java" in missing or (missing and not folder.exists()):
        raise Unavailable(f"no Kafka broker: {' and '.join(missing)} not found, and SAGE_TEST_KAFKA=host:port not set")
    _CACHE.mkdir(parents=True, exist_ok=True)
    with _locked(_CACHE / "lock"):
        if not folder.exists() or folder.stat().st_mtime < _POM.stat().st_mtime:
            fresh = _CACHE / f"lib-{uuid.uuid4().hex}"
            fetch = ["mvn", "-B", "-q", "-f", str(_POM), "dependency:copy-dependencies", f"-DoutputDirectory={fresh}"]
            done = subprocess.run(fetch, capture_output=True, text=True, timeout=patience(300), cwd=_CACHE)
            if done.returncode:
                shutil.rmtree(fresh, ignore_errors=True)
                raise Unavailable(f"no Kafka broker: Maven failed\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
            shutil.rmtree(folder, ignore_errors=True)
            fresh.rename(folder)
            os.utime(folder)
    return folder


class Broker:
    """A broker of one's own, with files and ports that stay when it is killed and started again.

    Attributes:
        address: ``host:port`` for clients.
        sasl_address: ``host:port`` for clients that log in with SASL PLAIN as ``SASL_USER``.
        lease: the named pipe that whoever needs the broker holds open for writing.
    """

    def __init__(self) -> None:
        self._jars = jars()
        self._home = Path(tempfile.mkdtemp(prefix="sage-kafka-"))
        port, sasl, controller = _free_ports(3)
        self.address = f"127.0.0.1:{port}"
        self.sasl_address = f"127.0.0.1:{sasl}"
        self.lease = self._home / "lease"
        self._log = self._home / "broker.out"
        self._held: int | None = None
        self._properties = self._home / "server.properties"
        text = _PROPERTIES.format(
            port=port, sasl=sasl, controller=controller, home=self._home, user=SASL_USER, password=SASL_PASSWORD
        )
        self._properties.write_text(text, encoding="utf-8")
        os.mkfifo(self.lease)
        self._format()

    def _format(self) -> None:
        tool = [*_JAVA, "-cp", f"{self._jars}/*", "kafka.tools.StorageTool", "format"]
        tool += ["-t", _CLUSTER, "-c", str(self._properties)]
        done = subprocess.run(tool, capture_output=True, text=True, timeout=patience(120))
        if done.returncode:
            shutil.rmtree(self._home, ignore_errors=True)
            raise Unavailable(f"no Kafka broker: its storage cannot be formatted\n{done.stdout}{done.stderr}")

    def start(self) -> Broker:
        """Starts it, and waits until it answers."""
        command = [*_JAVA, f"-Xmx{_HEAP}", "-cp", f"{self._jars}/*", "kafka.Kafka", str(self._properties)]
        environment = {**os.environ, "HOME_OF_BROKER": str(self._home)}
        # A session of its own: Ctrl-C at the terminal ends the tests, and only then the broker.
        subprocess.Popen(["sh", "-c", _WATCH, "sh", *command], env=environment, start_new_session=True)
        if self._held is None:
            self._held = os.open(self.lease, os.O_WRONLY)
        deadline = time.monotonic() + _STARTS_WITHIN_S
        while time.monotonic() < deadline:
            if self._answers():
                return self
            time.sleep(0.05)
        told = self._log.read_text(encoding="utf-8", errors="replace")[-3000:]
        self.close()
        raise Unavailable(f"the Kafka broker did not answer within {_STARTS_WITHIN_S:.0f} s\n{told}")

    def signal(self, number: signal.Signals) -> None:
        """Sends the JVM a signal: ``SIGKILL`` is a crash, ``SIGSTOP`` and ``SIGCONT`` a pause."""
        os.kill(int((self._home / "pid").read_text(encoding="utf-8")), number)
        while number is signal.SIGKILL and self._answers():
            time.sleep(0.01)

    def _answers(self) -> bool:
        host, port = self.address.split(":")
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Gives up this process's lease: the broker and its files go when no other process holds one."""
        if self._held is not None:
            os.close(self._held)
            self._held = None


def shared(folder: Path) -> tuple[str, int]:
    """The address of a broker that all who name this folder share, and the lease of this process (a descriptor).

    The first starts it; it goes when the last lease is closed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / "broker"
    with _locked(folder / "lock"):
        if note.exists():
            address, lease = note.read_text(encoding="utf-8").splitlines()
            with contextlib.suppress(OSError):  # nobody reads it any more: that broker is gone
                return address, os.open(lease, os.O_WRONLY | os.O_NONBLOCK)
        broker = Broker().start()
        note.write_text(f"{broker.address}\n{broker.lease}\n", encoding="utf-8")
        held = os.open(broker.lease, os.O_WRONLY)
        broker.close()
        return broker.address, held


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with open(path, "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
