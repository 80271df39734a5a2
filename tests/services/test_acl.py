"""Redis users on real servers: what is forbidden is refused, what the parties need is not; and ``penstock acl``."""

from __future__ import annotations

import hashlib
import importlib
from typing import TYPE_CHECKING, Any

import pytest
from redis.exceptions import AuthenticationError, NoPermissionError, NoScriptError, ResponseError
from typer.testing import CliRunner

from penstock import keys, lua
from penstock.access.grants import USERS
from penstock.bus.broker import ensure_group
from penstock.bus.connection import agree_on_partitions, check, connect
from penstock.bus.health import Health
from penstock.bus.reclaim import FORGET_CONSUMER, Reclaimer
from penstock.cli.app import app
from penstock.contracts.catalogue import CHANNELS, SERVICES
from penstock.contracts.deployments import CreateDeployment, UpdateSchedule
from penstock.contracts.pools import CreatePool
from penstock.contracts.queues import CreateQueue
from penstock.errors import Unavailable
from penstock.settings import Settings
from services.pool_registry.rules import Place
from tests.architecture.source import scripts
from tests.guarded_redis import ADMIN, GuardedRedis, binary_for, password_of
from tests.registering import Registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from penstock.access.acl import Dialect
    from penstock.contracts.base import Command

RUN = "0198c0de-0000-7000-8000-000000000000"
POOL = "0198c0de-1111-4000-8000-000000000000"


def at(family: str, ident: str = "") -> str:
    return keys.key(0, family, ident)


INBOX = at("inbox", "etl/w1")
OTHERS = ("XADD", at("events"), "*", "type", "x"), ("SET", at("pools"), "x"), ("HSET", at("pool", POOL), "name", "x")
"""What nobody but a service may do."""
SERVER = (
    ("FLUSHALL",),
    ("FLUSHDB",),
    ("KEYS", "*"),
    ("SCAN", "0"),
    ("RANDOMKEY",),
    ("SORT", at("pools"), "BY", "nosort", "GET", at("run", "*")),
    ("CONFIG", "GET", "*"),
    ("CONFIG", "SET", "requirepass", ""),
    ("ACL", "LIST"),
    ("ACL", "SETUSER", "default", "on", "nopass", "~*", "+@all"),
    ("CLIENT", "LIST"),
    ("CLIENT", "KILL", "TYPE", "normal"),
    ("EVAL", "return 1", "0"),
    ("SCRIPT", "FLUSH"),
    ("LATENCY", "RESET"),
    ("MONITOR",),
    ("INFO",),
    ("SHUTDOWN", "NOSAVE"),
    ("SLAVEOF", "127.0.0.1", "1"),
    ("SUBSCRIBE", "x"),
    ("PUBLISH", "x", "y"),
    ("GET", "something:else"),
    ("RENAME", at("events"), at("dead")),
    ("XGROUP", "DESTROY", at("events"), "billing"),
    ("XGROUP", "SETID", at("commands"), "pool_registry", "$"),
    ("OBJECT", "ENCODING", at("pools")),
    ("MEMORY", "USAGE", at("pools")),
)
"""What no party may do."""

FORBIDDEN: dict[str, tuple[tuple[str, ...], ...]] = {
    "worker": (
        *OTHERS,
        ("XREADGROUP", "GROUP", "dispatcher", "me", "STREAMS", at("dispatch"), ">"),
        ("XACK", at("dispatch"), "dispatcher", "0-1"),
        ("XTRIM", at("dispatch"), "MAXLEN", "0"),
        ("DEL", at("dispatch")),
        ("DEL", INBOX),
        ("XREAD", "STREAMS", at("inbox", "etl/x9"), "0"),
        ("XREAD", "STREAMS", at("inbox", "other/w1"), "0"),
        ("XDEL", at("inbox", "other/w1"), "0-1"),
        ("XADD", at("commands"), "*", "type", "x"),
        ("XADD", at("definitions"), "*", "type", "x"),
        ("XADD", at("dead"), "*", "type", "x"),
        ("HGETALL", at("run", RUN)),
        ("HSET", at("run", RUN), "state", "COMPLETED"),
        ("HGETALL", at("deployment", POOL)),
        ("ZRANGE", at("waiting", POOL), "0", "-1"),
        ("SADD", at("pool_online", POOL), "w1"),
        ("SET", keys.PARTITIONS_KEY, "7"),
        ("EVALSHA", "0" * 40, "1", at("dispatch")),
        ("SCRIPT", "LOAD", "return 1"),
    ),
    "client": (
        *OTHERS,
        ("XADD", at("heartbeats"), "*", "type", "x"),
        ("XADD", at("definitions"), "*", "type", "x"),
        ("XADD", at("dead"), "*", "type", "x"),
        ("XDEL", at("commands"), "0-1"),
        ("XREADGROUP", "GROUP", "dispatcher", "me", "STREAMS", at("dispatch"), ">"),
        ("XRANGE", at("dead"), "-", "+"),
        ("XRANGE", INBOX, "-", "+"),
        ("HSET", at("run", RUN), "state", "COMPLETED"),
        ("ZREM", at("pool_in_flight", POOL), RUN),
        ("DEL", at("pools")),
        ("SET", keys.PARTITIONS_KEY, "7"),
        ("EVALSHA", "0" * 40, "1", at("events")),
    ),
    "consumer": (
        *OTHERS,
        ("XDEL", at("events"), "0-1"),
        ("XTRIM", at("events"), "MAXLEN", "0"),
        ("XADD", at("commands"), "*", "type", "x"),
        ("XRANGE", at("dispatch"), "-", "+"),
        ("XRANGE", at("logs", RUN), "-", "+"),
        ("HGETALL", at("pools")),
        ("HGETALL", at("run", RUN)),
        ("SET", keys.PARTITIONS_KEY, "7"),
    ),
    "operator": (
        *OTHERS[1:],
        ("HSET", at("run", RUN), "state", "COMPLETED"),
        ("XTRIM", at("dead"), "MAXLEN", "0"),
        ("DEL", at("dead")),
        ("XADD", INBOX, "*", "type", "x"),
        ("XREADGROUP", "GROUP", "dispatcher", "me", "STREAMS", at("dispatch"), ">"),
    ),
    "pool_registry": (
        ("HSET", at("run", RUN), "state", "COMPLETED"),
        ("HGETALL", at("run", RUN)),
        ("XRANGE", at("dispatch"), "-", "+"),
        ("XADD", INBOX, "*", "type", "x"),
        ("XADD", at("heartbeats"), "*", "type", "x"),
    ),
    "heartbeat_monitor": (
        ("HSET", at("run", RUN), "state", "COMPLETED"),
        ("HGETALL", at("deployment", POOL)),
        ("ZADD", at("waiting", POOL), "1", RUN),
        ("XRANGE", at("logs", RUN), "-", "+"),
    ),
    "dispatcher": (
        ("HSET", at("worker", f"{POOL}/w1"), "status", "ONLINE"),
        ("ZADD", at("liveness"), "1", "x"),
        ("XADD", at("heartbeats"), "*", "type", "x"),
        ("HSET", at("schedule_plans"), "x", "y"),
    ),
    "scheduler": (
        ("XADD", at("events"), "*", "type", "x"),
        ("HSET", at("pool_in_flight", POOL), "x", "y"),
        ("XADD", INBOX, "*", "type", "x"),
        ("HGETALL", at("worker", f"{POOL}/w1")),
    ),
}
"""User -> what it must not do on any Redis."""

NEVER_ON_7: dict[str, tuple[tuple[str, ...], ...]] = {
    "worker": (
        ("XREAD", "STREAMS", at("dispatch"), "0"),
        ("XREAD", "STREAMS", at("heartbeats"), "0"),
        ("XREVRANGE", at("logs", RUN), "+", "-"),
        ("XDEL", at("dispatch"), "0-1"),
        ("XADD", INBOX, "*", "type", "assign_runs"),
        ("PEXPIRE", at("dispatch"), "1"),
        ("PEXPIRE", at("pools"), "1"),
        ("BLPOP", at("pools"), "1"),
    ),
    "client": (
        ("XADD", at("events"), "*", "type", "x"),
        ("XADD", at("logs", RUN), "*", "type", "x"),
        ("XREAD", "STREAMS", at("commands"), "0"),
    ),
    "operator": (
        ("XADD", at("dead"), "*", "type", "x"),
        ("XDEL", at("events"), "0-1"),
        ("XDEL", at("commands"), "0-1"),
    ),
    "pool_registry": (
        ("SADD", at("pool_online", POOL), "w1"),
        ("XADD", at("commands"), "*", "type", "x"),
        ("DEL", at("commands")),
        ("XRANGE", at("dead"), "-", "+"),
    ),
    "heartbeat_monitor": (("HSET", at("pool", POOL), "is_paused", "false"), ("XRANGE", at("dispatch"), "-", "+")),
    "dispatcher": (
        ("HSET", at("pool", POOL), "concurrency_limit", "99"),
        ("HSET", at("queue", POOL), "is_paused", "false"),
        ("HDEL", at("deployment", POOL), "concurrency_limit"),
        ("XADD", at("definitions"), "*", "type", "x"),
    ),
    "scheduler": (
        ("HSET", at("run", RUN), "state", "COMPLETED"),
        ("HSET", at("deployment", POOL), "paused", "false"),
        ("XRANGE", at("events"), "-", "+"),
        ("XRANGE", at("dispatch"), "-", "+"),
    ),
}
"""User -> what only Redis 7 can forbid: commands it needs elsewhere."""
WRITES_ON_6 = {("XADD", at("events"), "*", "type", "x")}
"""Redis 6.2 cannot let somebody read a stream and append to another without letting it append to both."""


@pytest.fixture(scope="module", params=["6.2", "7"])
def dialect(request: pytest.FixtureRequest) -> Dialect:
    wanted: Dialect = request.param
    if not binary_for(wanted):
        pytest.skip(f"there is no Redis {wanted} or later on this machine")
    return wanted


@pytest.fixture(scope="module")
def guarded(dialect: Dialect, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedRedis]:
    with GuardedRedis(tmp_path_factory.mktemp("guarded"), dialect) as server:
        yield server


def cases(dialect: Dialect, user: str) -> list[tuple[str, ...]]:
    listed = [*SERVER, *FORBIDDEN[user]]
    if dialect == "7":
        return [*listed, *NEVER_ON_7.get(user, ())]
    return [words for words in listed if words not in WRITES_ON_6 or user == "worker"]


@pytest.mark.parametrize("user", [*USERS, "worker"])
async def test_what_is_forbidden_is_refused(user: str, guarded: GuardedRedis, dialect: Dialect) -> None:
    client: Any = guarded.client(user)
    done = []
    for words in cases(dialect, user):
        try:
            await client.execute_command(*words)
        except NoPermissionError:
            continue
        except ResponseError as problem:
            done.append((words, str(problem)))
        else:
            done.append((words, "was done"))
    await client.aclose()
    assert done == []


def test_the_lists_have_every_user() -> None:
    assert FORBIDDEN.keys() == {*USERS, "worker"}
    assert NEVER_ON_7.keys() == {*USERS, "worker"} - {"consumer"}


async def test_what_only_redis_7_can_forbid_is_known_and_not_more(dialect: Dialect, guarded: GuardedRedis) -> None:
    """The documents say what Redis 6.2 leaves open; when this fails they say too much."""
    if dialect == "7":
        pytest.skip("about Redis 6.2")
    client: Any = guarded.client("worker")
    await client.execute_command("XREAD", "STREAMS", at("dispatch"), "0")
    await client.execute_command("XDEL", at("dispatch"), "0-1")
    await client.aclose()


@pytest.mark.parametrize("user", ["default", "nobody", "worker", "probe"])
async def test_without_its_password_nobody_gets_in(user: str, guarded: GuardedRedis) -> None:
    client = connect(f"redis://{user}:wrong@127.0.0.1:{guarded.port}/0", retries=0)
    if user == "probe":
        assert await client.ping()
        with pytest.raises(NoPermissionError):
            await client.get(keys.PARTITIONS_KEY)
    else:
        with pytest.raises(AuthenticationError):
            await client.ping()
    await client.aclose()


async def test_a_wrong_password_is_said_to_be_one(guarded: GuardedRedis) -> None:
    url = f"redis://client:wrong-secret@127.0.0.1:{guarded.port}/0"
    client = connect(url, retries=0)
    with pytest.raises(Unavailable, match=r"does not let us in .*PENSTOCK_REDIS_URL") as refused:
        await check(client, url)
    assert "wrong-secret" not in str(refused.value)
    await client.aclose()


async def test_a_script_may_do_no_more_than_its_user(guarded: GuardedRedis) -> None:
    client = guarded.client("scheduler")
    sha = await client.script_load("return redis.call('HSET', KEYS[1], 'name', 'x')")
    with pytest.raises((NoPermissionError, ResponseError), match=r"(?i)permission|NOPERM|can't access"):
        await client.evalsha(sha, 1, at("pool_online", POOL))
    inside = await client.script_load(f"return redis.call('HGETALL', '{at('worker', POOL + '/w1')}')")
    with pytest.raises((NoPermissionError, ResponseError), match=r"(?i)permission|NOPERM|can't access"):
        await client.evalsha(inside, 1, at("schedule_plans"))
    await client.aclose()


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_looks_after_its_streams(service: str, guarded: GuardedRedis) -> None:
    """Reclaiming, trimming and forgetting consumers are rare; a life of work does not come by all of them."""
    admin, client = guarded.client(ADMIN), guarded.client(service)
    subscriptions = subscriptions_of(service)
    assert subscriptions
    for subscription in subscriptions:
        name = at(subscription.stream.name)
        await ensure_group(client, subscription.stream, 0, subscription.group)
        await admin.xadd(name, {"type": "nonsense", "__data__": "{"})
        await client.xreadgroup(subscription.group, "gone", {name: ">"}, count=10)
        reclaimer = Reclaimer(client, subscription, 0, "me", 0)
        assert await reclaimer.reclaim() >= 1
        await reclaimer.trim()
        await reclaimer.forget_consumers()
        assert await FORGET_CONSUMER(client, 0, stream=name, group=subscription.group, consumer="gone") == 1
    await client.aclose()
    await admin.aclose()


def subscriptions_of(service: str) -> list[Any]:
    """What a service subscribes to, from its own wiring."""
    wiring = importlib.import_module(f"services.{service}.app")
    settings = importlib.import_module(f"services.{service}.__main__")
    kind = next(kind for kind in vars(settings).values() if isinstance(kind, type) and issubclass(kind, Settings))
    return list(wiring.build(kind(), connect("redis://127.0.0.1:1/0"), Health(service)).subscriptions)


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_may_run_each_of_its_scripts(service: str, guarded: GuardedRedis) -> None:
    """Redis looks at the keys of a call before it looks for the script."""
    client: Any = guarded.client(service)
    for path in scripts():
        if path.parent.parent.name == service:
            script = lua.load(f"services.{service}", path.stem)
            await client.script_load(script.text)
            names = [at(family) for family in script.header.keys]
            with pytest.raises(NoScriptError):
                await client.execute_command("EVALSHA", "0" * 40, len(names), *names)
    await client.aclose()


async def test_the_registry_may_carry_out_commands_about_pools_and_deployments(guarded: GuardedRedis) -> None:
    client: Any = guarded.client("pool_registry")
    registry = Registry(client)
    commands: list[Command] = [
        CreatePool(pool="night shift", if_missing=True),
        CreateQueue(pool="night shift", queue="spare", if_missing=True),
        CreateDeployment(deployment="hello/demo", pool="night shift", command="true", overwrite=True),
        UpdateSchedule(deployment="hello/demo", schedule_id="no such schedule", active=False),
    ]
    for number, command in enumerate(commands):
        for again in (False, True):
            reply = await registry.answer(
                command.model_copy(update={"id": f"c{number}"}), f"1000-{number}", again=again
            )
            assert reply.ok or (reply.error and reply.error.code == "not_found"), reply
    known = await registry.store.know(Place(0, "1000-1", again=True), commands[-1], "hello/demo")
    assert known.settled
    await client.aclose()


async def test_only_a_service_fixes_the_number_of_partitions(guarded: GuardedRedis) -> None:
    admin, worker, registry = guarded.client(ADMIN), guarded.client("worker"), guarded.client("pool_registry")
    await admin.delete(keys.PARTITIONS_KEY)
    with pytest.raises(Unavailable, match="no service of Penstock has been started"):
        await agree_on_partitions(worker, 1)
    await agree_on_partitions(registry, 1)
    await agree_on_partitions(worker, 1)
    for client in (admin, worker, registry):
        await client.aclose()


def test_every_channel_has_somebody_who_may_write_and_somebody_who_may_read() -> None:
    for name, channel in CHANNELS.items():
        assert channel.writers, name
        assert channel.readers, name


def printed(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result.output


def test_the_command_prints_a_file_that_a_server_takes(tmp_path: Path, dialect: Dialect) -> None:
    options = ["--redis", dialect, "--passwords", str(tmp_path / "secrets")]
    text = printed("acl", *options) + printed("acl", "worker", "--pool", "night shift", "--name", "w*", *options)
    for user in (*USERS, "worker"):
        password = (tmp_path / "secrets" / user / "password").read_text().strip()
        assert f"user {user} on #{hashlib.sha256(password.encode()).hexdigest()} " in text
        assert password not in text
    assert (
        printed("acl", *options) + printed("acl", "worker", "--pool", "night shift", "--name", "w*", *options) == text
    ), "what is there already is kept"


def test_the_command_makes_no_passwords_unasked() -> None:
    assert " on " not in printed("acl").replace("default on", "")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("acl", "worker", "--pool", "etl", "--user", "dispatcher"), "not for workers"),
        (("acl", "worker", "--pool", "etl", "--user", "default"), "not for workers"),
        (("acl", "worker", "--pool", "etl", "--user", "a b"), "letters"),
        (("acl", "worker", "--pool", "a/b"), "none of"),
        (("acl", "--redis", "7", "worker", "--pool", "etl"), "go behind"),
        (("acl", "--redis", "5"), "5"),
        (("acl", "worker"), "pool"),
    ],
)
def test_wrong_input_is_refused_with_a_reason(arguments: tuple[str, ...], says: str) -> None:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code in {1, 2}, result.output
    assert says in result.output


def test_a_weak_password_is_refused_and_not_shown(tmp_path: Path) -> None:
    (tmp_path / "client").mkdir()
    (tmp_path / "client" / "password").write_text("secret123\n")
    said = printed("acl", "--passwords", str(tmp_path), code=1)
    assert "9 characters" in said
    assert "secret123" not in said


def test_the_passwords_of_these_tests_have_what_means_something_in_a_url() -> None:
    assert set("/?#@:%&") <= set(password_of("client"))
