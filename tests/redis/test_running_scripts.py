"""Many scripts in one round trip: each once, in order, also when Redis has forgotten them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from redis.exceptions import ResponseError

from penstock import keys, lua
from penstock.bus.connection import connect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from redis.asyncio import Redis

TICK = keys.key(0, "liveness_tick")


def script(package: Path, name: str, body: str) -> lua.Script:
    header = f"-- {name}: A script of a test.\n-- KEYS liveness_tick STRING\n-- ARGV letter\n"
    header += "-- RETURNS x\n-- COST O(1)\n-- RULE none\n"
    (package / f"{name}.lua").write_text(header + body, encoding="utf-8")
    return lua.Script("scripted_too", name)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "scripted_too" / "lua").mkdir(parents=True)
    (tmp_path / "scripted_too" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "scripted_too", raising=False)
    return tmp_path / "scripted_too" / "lua"


@pytest.fixture
def small(package: Path) -> lua.Script:
    return script(package, "small", "return redis.call('APPEND', liveness_tick, letter)")


@pytest.fixture
def large(package: Path) -> lua.Script:
    return script(package, "large", "return redis.call('APPEND', liveness_tick, letter:upper())")


@pytest.fixture
async def fresh(client: Redis, redis_url: str) -> AsyncIterator[Redis]:
    """A client that has loaded nothing, on a Redis that knows no script."""
    await client.script_flush()
    fresh = connect(redis_url)
    yield fresh
    await fresh.aclose()


async def test_one_call_answers_what_the_script_returns(fresh: Redis, small: lua.Script) -> None:
    assert await small(fresh, 0, letter="a") == 1
    assert await small(fresh, 0, letter="b") == 2


async def test_many_calls_are_executed_once_each_in_order(fresh: Redis, small: lua.Script, large: lua.Script) -> None:
    await small(fresh, 0, letter="a")
    answers = await lua.run_all(
        fresh, [script.bind(0, letter=letter) for script, letter in ((small, "b"), (large, "c"), (small, "d"))]
    )
    assert answers == [2, 3, 4], "the second script was unknown and neither overtaken nor executed twice"
    assert await fresh.get(TICK) == b"abCd"


async def test_a_redis_that_has_forgotten_its_scripts_gets_them_again(
    fresh: Redis, small: lua.Script, large: lua.Script
) -> None:
    calls = [small.bind(0, letter="a"), large.bind(0, letter="b")]
    await lua.run_all(fresh, calls)
    await fresh.script_flush()
    assert await lua.run_all(fresh, calls) == [3, 4]
    await fresh.script_flush()
    assert await small(fresh, 0, letter="c") == 5
    assert await fresh.get(TICK) == b"aBaBc"


async def test_an_error_of_one_is_raised_after_all_have_been_sent(
    fresh: Redis, small: lua.Script, package: Path
) -> None:
    broken = script(package, "broken", "return redis.call('INCR', liveness_tick, letter)")
    with pytest.raises(ResponseError):
        await lua.run_all(fresh, [small.bind(0, letter="a"), broken.bind(0, letter="b"), small.bind(0, letter="c")])
    assert await fresh.get(TICK) == b"ac"


async def test_a_script_that_is_no_lua_is_an_error_at_the_first_call(fresh: Redis, package: Path) -> None:
    nonsense = script(package, "nonsense", "return return letter")
    with pytest.raises(ResponseError, match="compil"):
        await nonsense(fresh, 0, letter="a")


async def test_partitions_do_not_see_each_others_keys(fresh: Redis, small: lua.Script) -> None:
    await lua.run_all(fresh, [small.bind(partition, letter="x") for partition in (0, 1, 1)])
    found: Any = [await fresh.get(keys.key(partition, "liveness_tick")) for partition in (0, 1)]
    assert found == [b"x", b"xx"]
