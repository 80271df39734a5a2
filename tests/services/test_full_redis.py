"""A Redis that answers and refuses everybody is an outage like another: nobody ends, nothing is lost, work goes on afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError

from penstock.bus.connection import connect, is_outage, refuses_everybody
from tests.services.test_runner import BACK_WITHIN_SECONDS, handled, send, toy
from tests.services.toy_service import TURNS
from tests.support import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from penstock.cli.embedded_redis import EmbeddedRedis

IN_A_SCRIPT = "Error running script: @user_script:1: -OOM command not allowed when used memory > 'maxmemory'."


@pytest.mark.parametrize(
    "problem",
    [OutOfMemoryError("command not allowed"), ReadOnlyError("You can't write"), ResponseError(IN_A_SCRIPT)],
    ids=["full", "read only", "full, told by a script"],
)
def test_a_redis_that_refuses_everybody_is_an_outage(problem: ResponseError) -> None:
    assert refuses_everybody(problem)
    assert is_outage(problem)


def test_a_redis_that_refuses_one_command_is_none() -> None:
    assert not is_outage(ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"))


@pytest.mark.system
async def test_a_service_outlives_a_full_redis_and_goes_on_within_10_seconds(
    own_redis: EmbeddedRedis, tmp_path: Path
) -> None:
    client = connect(own_redis.url)
    with toy(own_redis.url, tmp_path) as service:
        await service.answers("/readyz", 200)
        await send(client, "before")
        assert await handled(client, "before") == 1
        await send(client, "slow")
        await client.config_set("maxmemory", "1")
        assert "Redis" in await service.answers("/readyz", 503)

        async def refused_more_than_once() -> bool:
            return service.log.count("refuses, trying again") > 1

        await wait_until(refused_more_than_once, what="the loop tries again")
        await client.config_set("maxmemory", "0")
        turns = int(await client.get(TURNS) or 0)

        async def goes_on() -> bool:
            return int(await client.get(TURNS) or 0) > turns

        await wait_until(goes_on, what="the loop goes on", timeout=BACK_WITHIN_SECONDS)
        await service.answers("/readyz", 200, BACK_WITHIN_SECONDS)
        await send(client, "after")
        assert await handled(client, "after", BACK_WITHIN_SECONDS) == 1
        assert service.process.poll() is None
    await client.aclose()


@pytest.mark.system
async def test_a_service_that_starts_on_a_full_redis_waits_for_room(own_redis: EmbeddedRedis, tmp_path: Path) -> None:
    client = connect(own_redis.url)
    await client.config_set("maxmemory", "1")
    with toy(own_redis.url, tmp_path) as service:

        async def waits() -> bool:
            return "waiting for Redis" in service.log

        await wait_until(waits, what="it waits")
        await client.config_set("maxmemory", "0")
        await service.answers("/readyz", 200)
    await client.aclose()
