"""The password of Redis is in nothing that anybody prints, serves or stores, however much is logged and whatever goes wrong."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import urllib.request
from typing import IO, TYPE_CHECKING, Any

import orjson
import pytest

from penstock import keys
from penstock.bus.connection import check, connect
from penstock.cli.embedded_redis import free_port
from penstock.client import local_state
from penstock.contracts.catalogue import SERVICES
from penstock.errors import BadSettings, PenstockError
from penstock.settings import Settings, masked, with_password
from tests.guarded_redis import ADMIN, GuardedRedis, password_of
from tests.support import wait_until
from tests.system.processes import PENSTOCK, Up

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MARK = ADMIN[::-1]
"""The end of the password; what is before it means something in a URL, so a careless reader of it shows this."""
assert password_of(ADMIN).endswith(MARK)


def environment(url: str, home: Path, **more: str) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
    wanted = {"PENSTOCK_REDIS_URL": url, "PENSTOCK_LOG_LEVEL": "debug", "PENSTOCK_UP_HOME": str(home)}
    return {**ours, **wanted, **more}


def penstock(url: str, home: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    command = [*PENSTOCK, *arguments]
    return subprocess.run(
        command, env=environment(url, home, **more), capture_output=True, text=True, check=False, timeout=60
    )


def start(command: list[str], log: IO[bytes], variables: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, env=variables, stdout=log, stderr=log)


def served_at(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - a process of ours
        return str(answer.read().decode())


def all_arguments() -> str:
    """Of every process on this machine."""
    return subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout


def said(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedRedis]:
    with GuardedRedis(tmp_path_factory.mktemp("guarded"), "6.2") as server:
        yield server


async def everything_in(server: GuardedRedis) -> bytes:
    """All keys with their contents."""
    client = server.client(ADMIN)
    found = []
    async for key in client.scan_iter():
        kind = await client.type(key)
        match kind:
            case b"hash":
                value: Any = await client.hgetall(key)
            case b"stream":
                value = await client.xrange(key)
            case b"zset":
                value = await client.zrange(key, 0, -1)
            case b"set":
                value = await client.smembers(key)
            case b"list":
                value = await client.lrange(key, 0, -1)
            case _:
                value = await client.get(key)
        found.append(repr((key, value)))
    await client.aclose()
    return "\n".join(found).encode()


@pytest.mark.system
async def test_a_whole_life_at_the_lowest_level_of_logging_shows_no_password(
    guarded: GuardedRedis, tmp_path: Path
) -> None:
    url = guarded.url(ADMIN)
    ports = {service: free_port() for service in SERVICES}
    worker_port = free_port()
    commands = {service: [sys.executable, "-m", f"services.{service}"] for service in SERVICES}
    worker = [*PENSTOCK, "worker", "start", "--pool", "etl", "--name", "w1", "--type", "process", "--with-healthcheck"]
    shown: list[str] = []
    processes = []
    log = (tmp_path / "log").open("ab")
    try:
        for service, command in commands.items():
            variables = environment(url, tmp_path, PENSTOCK_HEALTH_PORT=str(ports[service]))
            processes.append(start(command, log, variables))
        variables = environment(url, tmp_path, PENSTOCK_WORKER_HEALTH_PORT=str(worker_port))
        processes.append(start(worker, log, variables))

        async def served() -> bool:
            listed = penstock(url, tmp_path, "worker", "ls", "-o", "json")
            shown.append(said(listed))
            return '"ONLINE"' in listed.stdout

        await wait_until(served, what="the worker", every=0.2, timeout=40)
        submitted = penstock(
            url, tmp_path, "flow-run", "submit", "--pool", "etl", "--command", "env", "--wait", "-o", "json"
        )
        assert submitted.returncode == 0, said(submitted)
        run = orjson.loads(submitted.stdout)["runs"][0]["id"]
        output = penstock(url, tmp_path, "flow-run", "logs", run)
        assert "PENSTOCK_RUN_ID=" in output.stdout
        assert "PENSTOCK_REDIS" not in output.stdout
        shown += [said(submitted), said(output)]
        for arguments in (
            ("worker", "inspect", "w1", "-p", "etl", "-o", "json"),
            ("work-pool", "inspect", "etl", "-o", "json"),
            ("flow-run", "inspect", run, "-o", "json"),
            ("flow-run", "explain", run),
            ("events", "tail", "--since", "0", "--no-follow", "-o", "json"),
            ("dead", "ls"),
            ("work-pool", "inspect", "nothing"),
        ):
            shown.append(said(penstock(url, tmp_path, *arguments)))
        for port in (*ports.values(), worker_port):
            shown.append(said(penstock(url, tmp_path, "health", "--url", f"http://127.0.0.1:{port}", "-o", "json")))
            shown.append(served_at(f"http://127.0.0.1:{port}/metrics"))
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(30)
        log.close()
    shown.append((tmp_path / "log").read_text())
    assert "started" in shown[-1]
    assert [text for text in shown if MARK in text] == []
    assert MARK.encode() not in await everything_in(guarded)


@pytest.mark.system
@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_that_is_not_let_in_does_not_say_with_what_it_tried(
    service: str, guarded: GuardedRedis, tmp_path: Path
) -> None:
    wrong = f"redis://{ADMIN}:wrong-{MARK}@127.0.0.1:{guarded.port}/0"
    command = [sys.executable, "-m", f"services.{service}"]

    async def told() -> bool:
        return "does not let us in" in (tmp_path / "log").read_text()

    with (tmp_path / "log").open("wb") as log:
        variables = environment(wrong, tmp_path, PENSTOCK_HEALTH_PORT="-1")
        process = await asyncio.create_subprocess_exec(*command, env=variables, stdout=log, stderr=log)
        try:
            await wait_until(told, what="the service to say that it is not let in", timeout=60)
            assert process.returncode is None, "it goes on trying"
        finally:
            process.terminate()
            await asyncio.wait_for(process.wait(), 20)
    text = (tmp_path / "log").read_text()
    assert "does not let us in" in text
    assert MARK not in text


@pytest.mark.system
async def test_up_says_where_its_redis_is_and_not_how_to_get_in(guarded: GuardedRedis, tmp_path: Path) -> None:
    up = Up(tmp_path / "up", "--no-worker", PENSTOCK_REDIS_URL=guarded.url(ADMIN), PENSTOCK_LOG_LEVEL="debug")
    try:
        await up.wait_ready()
        state = tmp_path / "up" / local_state.FILE_NAME
        assert MARK in state.read_text(), "commands find Redis through it"
        assert state.stat().st_mode & 0o777 == 0o600
        listed = up.run("health", "-o", "json")
        arguments = all_arguments()
        assert up.interrupt() == 0
    finally:
        up.clean_up()
    assert f"127.0.0.1:{guarded.port}/0" in up.printed
    assert MARK not in up.printed + said(listed)
    assert MARK not in arguments


WRONG_URLS = {
    "a password with what ends it": f"redis://user:a/b@c{MARK}@127.0.0.1:6379/0",
    "a password with a colon and a slash": f"redis://user:{MARK}:x/y@127.0.0.1/0",
    "the password as a port": f"redis://127.0.0.1:{MARK}/0",
    "no scheme": f"http://user:{MARK}@127.0.0.1:6379/0",
    "no scheme at all": f"user:{MARK}@127.0.0.1",
    "the password as an option": f"redis://127.0.0.1:port/0?password={MARK}",
    "a forbidden option": f"redis://u:{MARK}@127.0.0.1:6379/0?protocol=3",
    "an unknown option": f"redis://u:{MARK}@127.0.0.1:6379/0?nonsense=3",
    "nobody there": f"redis://u:{MARK}@127.0.0.1:1/0",
    "no such host": f"redis://u:{MARK}@host.invalid:6379/0",
    "the password as an option, nobody there": f"redis://127.0.0.1:1/0?password={MARK}",
    "a missing certificate": f"rediss://u:{MARK}@127.0.0.1:1/0?ssl_ca_certs=/nonexistent&ssl_password={MARK}",
}


@pytest.mark.system
@pytest.mark.parametrize("url", WRONG_URLS.values(), ids=WRONG_URLS)
def test_a_command_with_a_wrong_url_does_not_quote_its_password(url: str, tmp_path: Path) -> None:
    done = penstock(url, tmp_path, "work-pool", "ls")
    assert done.returncode in {2, 3}, said(done)
    assert MARK not in said(done)


async def reach() -> None:
    settings = Settings.read()
    client = connect(settings.redis_url, retries=0)
    try:
        await check(client, settings.redis_url)
    finally:
        await client.aclose()


@pytest.mark.parametrize("url", WRONG_URLS.values(), ids=WRONG_URLS)
async def test_no_error_of_the_library_quotes_a_password(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_REDIS_URL", url)
    with pytest.raises(PenstockError) as refused:
        await reach()
    chain: BaseException | None = refused.value
    while chain is not None:
        assert MARK not in str(chain)
        chain = None if chain.__suppress_context__ else chain.__cause__ or chain.__context__


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://u:p@host:1/0", "redis://***@host:1/0"),
        ("redis://u:p/q@r@host:1/0", "redis://***@host:1/0"),
        ("redis://host/0?password=x&db=1", "redis://host/0?password=***&db=1"),
        ("rediss://host/0?ssl_password=x", "rediss://host/0?ssl_password=***"),
        ("redis://host:1/0", "redis://host:1/0"),
    ],
)
def test_a_masked_url_keeps_all_but_the_password(url: str, expected: str) -> None:
    assert masked(url) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://u@host:1/0", "redis://u:a%2Fb%40c@host:1/0"),
        ("redis://host:1/0", "redis://:a%2Fb%40c@host:1/0"),
        ("rediss://u@host/0?ssl_ca_certs=x", "rediss://u:a%2Fb%40c@host/0?ssl_ca_certs=x"),
        ("unix://u@/run/redis.sock?db=1", "unix://u:a%2Fb%40c@/run/redis.sock?db=1"),
        ("redis://u:own@host:1/0", "redis://u:own@host:1/0"),
    ],
)
def test_a_password_file_fills_the_gap_in_a_url(url: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("a/b@c\n")
    assert with_password(url, tmp_path / "password") == expected


def test_settings_read_the_password_from_its_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret")
    monkeypatch.setenv("PENSTOCK_REDIS_URL", "redis://u@host:1/0")
    monkeypatch.setenv("PENSTOCK_REDIS_PASSWORD_FILE", str(tmp_path / "password"))
    assert Settings.read().redis_url == "redis://u:secret@host:1/0"


@pytest.mark.parametrize(("content", "why"), [(None, "No such file"), (b"", "empty"), (b"\xff\xfe", "no text")])
def test_a_password_file_that_has_none_is_an_error_of_the_settings(
    content: bytes | None, why: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "password").write_bytes(content)
    monkeypatch.setenv("PENSTOCK_REDIS_PASSWORD_FILE", str(tmp_path / "password"))
    with pytest.raises(BadSettings, match=f"PENSTOCK_REDIS_PASSWORD_FILE=.*{why}"):
        Settings.read()


def test_no_family_of_keys_is_for_secrets() -> None:
    assert not [family for family in keys.FAMILIES if "password" in family or "secret" in family]
