"""Send a command and wait: the answer, the refusal as its own error, or the certainty that nothing will happen later."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from penstock import errors, keys, streams
from penstock.bus.connection import connect, redis_now_ms
from penstock.bus.delivery import answer
from penstock.bus.requests import publish, request, request_all
from penstock.cli.embedded_redis import EmbeddedRedis, free_port
from penstock.contracts.pools import PausePool, UpdatePool
from penstock.contracts.replies import Reply, ReplyError
from tests.rewinding import RewindableRedis
from tests.scripts import evaluate
from tests.support import read_messages, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis

EXECUTE = (
    "-- ARGV command_id\n-- ARGV deadline\n-- USES liveness_tick\n-- INCLUDES clock replies",
    """
    if expired(deadline) then return refuse(command_id, 'expired', 'too late', nil) end
    return accept(command_id, redis.call('INCR', key_liveness_tick()))
    """,
)


async def sent(client: Redis) -> dict[str, Any]:
    async def message() -> Any:
        return await read_messages(client, "commands")

    return dict((await wait_until(message, what="the command is sent"))[0])


async def answered(client: Redis, **reply: Any) -> Any:
    """Send a command, answer it as a service would, give back what the caller got."""
    asking = asyncio.create_task(request(client, streams.COMMANDS, 0, PausePool(pool="etl"), timeout_seconds=5))
    command = await sent(client)
    await answer(client, 0, Reply(id=command["id"], **reply))
    return await asking


async def test_the_caller_gets_the_result(client: Redis) -> None:
    assert await answered(client, ok=True, result={"name": "etl", "queues": []}) == {"name": "etl", "queues": []}


async def test_the_answer_is_gone_once_taken(client: Redis) -> None:
    await answered(client, ok=True)
    assert await client.keys("*:reply:*") == []


@pytest.mark.parametrize("code", sorted(errors.REFUSALS.keys() - {errors.Overtaken.code}))
async def test_a_refusal_is_raised_as_its_own_error(client: Redis, code: str) -> None:
    with pytest.raises(errors.Refused) as caught:
        await answered(
            client, ok=False, error=ReplyError(code=code, message="no such pool", hint="penstock work-pool ls")
        )
    assert type(caught.value) is errors.REFUSALS[code]
    assert (caught.value.message, caught.value.hint) == ("no such pool", "penstock work-pool ls")


async def test_a_command_that_was_overtaken_is_sent_again_under_its_name(client: Redis) -> None:
    asking = asyncio.create_task(request(client, streams.COMMANDS, 0, PausePool(pool="etl"), timeout_seconds=5))
    command = await sent(client)
    overtaken = ReplyError(code="overtaken", message="a newer command was carried out")
    await answer(client, 0, Reply(id=command["id"], ok=False, error=overtaken))

    async def sent_twice() -> bool:
        return len(await read_messages(client, "commands")) == 2

    await wait_until(sent_twice, what="it comes again")
    assert await read_messages(client, "commands") == [command, command]
    await answer(client, 0, Reply(id=command["id"], ok=True, result="as it says: overtaken"))
    assert await asking == "as it says: overtaken"


async def test_an_unknown_refusal_is_still_a_refusal(client: Redis) -> None:
    with pytest.raises(errors.Refused, match="newer than you"):
        await answered(client, ok=False, error=ReplyError(code="from_the_future", message="newer than you"))


async def test_a_command_carries_an_id_and_a_deadline_in_redis_time(client: Redis) -> None:
    before = await redis_now_ms(client)
    with pytest.raises(errors.NoReply, match="pause_pool"):
        await request(client, streams.COMMANDS, 0, PausePool(pool="etl"), timeout_seconds=0.2)
    command = await sent(client)
    assert len(command["id"]) == 32
    assert before + 200 <= command["deadline"] <= await redis_now_ms(client) + 200


async def test_an_id_of_the_callers_own_is_kept_so_that_it_may_ask_again(client: Redis) -> None:
    with pytest.raises(errors.NoReply):
        await request(client, streams.COMMANDS, 0, PausePool(id="mine", pool="etl"), timeout_seconds=0.05)
    assert (await sent(client))["id"] == "mine"


async def test_no_reply_says_what_was_asked_of_whom(client: Redis) -> None:
    with pytest.raises(errors.NoReply, match=r"nobody answered pause_pool within 0\.05 s.*'commands'"):
        await request(client, streams.COMMANDS, 0, PausePool(pool="etl"), timeout_seconds=0.05)


async def test_after_no_reply_the_command_is_not_executed_any_more(client: Redis) -> None:
    with pytest.raises(errors.NoReply):
        await request(client, streams.COMMANDS, 0, PausePool(pool="etl"), timeout_seconds=0.05)
    command = await sent(client)
    raw = await evaluate(client, *EXECUTE, command["id"], command["deadline"])
    assert orjson.loads(raw)["error"]["code"] == "expired"
    assert await client.get(keys.key(0, "liveness_tick")) is None


async def test_before_the_deadline_it_is_executed_and_the_caller_learns_of_it(client: Redis) -> None:
    asking = asyncio.create_task(request(client, streams.COMMANDS, 0, PausePool(pool="etl"), timeout_seconds=5))
    command = await sent(client)
    await evaluate(client, *EXECUTE, command["id"], command["deadline"])
    assert await asking == 1


async def test_two_callers_get_each_their_own_answer(client: Redis) -> None:
    callers = [
        asyncio.create_task(request(client, streams.COMMANDS, 0, PausePool(pool=f"pool {n}"), timeout_seconds=5))
        for n in range(20)
    ]

    async def all_sent() -> Any:
        messages = await read_messages(client, "commands")
        return messages if len(messages) == len(callers) else None

    for message in reversed(await wait_until(all_sent, what="all are sent")):
        await answer(client, 0, Reply(id=message["id"], ok=True, result=message["pool"]))
    assert await asyncio.gather(*callers) == [f"pool {n}" for n in range(20)]


async def test_a_command_larger_than_a_message_may_be_is_refused_before_it_is_sent(client: Redis) -> None:
    template = {"blob": "x" * streams.MAX_MESSAGE_BYTES}
    command = UpdatePool.model_validate({"pool": "etl", "changes": {"base_job_template": template}})
    with pytest.raises(errors.Invalid, match="bytes"):
        await request(client, streams.COMMANDS, 0, command)
    assert await client.exists(keys.key(0, "commands")) == 0


async def test_a_redis_that_is_not_there_is_unavailable() -> None:
    nowhere = connect(f"redis://127.0.0.1:{free_port()}/0", retries=0)
    with pytest.raises(errors.Unavailable, match="Redis does not answer"):
        await request(nowhere, streams.COMMANDS, 0, PausePool(pool="etl"))
    await nowhere.aclose()


async def test_an_entry_is_a_type_and_one_bare_json_object(client: Redis) -> None:
    entry_id = await publish(client, streams.COMMANDS, 0, PausePool(id="c1", pool="größe"))
    rows: Any = await client.xrange(keys.key(0, "commands"))
    [(found_id, fields)] = rows
    assert found_id.decode() == entry_id
    assert fields == {
        b"type": b"pause_pool",
        b"__data__": '{"id":"c1","deadline":null,"type":"pause_pool","pool":"größe"}'.encode(),
    }


async def all_sent(client: Redis, count: int) -> list[dict[str, Any]]:
    async def there() -> list[dict[str, Any]] | None:
        messages = await read_messages(client, "commands")
        return messages if len(messages) >= count else None

    return list(await wait_until(there, what=f"{count} commands"))


async def test_many_commands_are_sent_before_the_first_is_answered_and_get_each_their_own_answer(client: Redis) -> None:
    told: list[int] = []
    commands = [PausePool(pool=f"pool {n}") for n in range(50)]
    asking = asyncio.create_task(
        request_all(client, streams.COMMANDS, 0, commands, timeout_seconds=5, on_answer=told.append)
    )

    messages = await all_sent(client, 50)
    assert [message["pool"] for message in messages] == [command.pool for command in commands]
    assert len({message["deadline"] for message in messages}) == 1
    for message in reversed(messages):
        await answer(client, 0, Reply(id=message["id"], ok=True, result=message["pool"]))

    assert await asking == [command.pool for command in commands]
    assert sorted(told) == list(range(50))


async def test_the_answers_are_handed_over_as_soon_as_all_are_there(client: Redis) -> None:
    commands = [PausePool(pool=f"pool {n}") for n in range(3)]
    asking = asyncio.create_task(request_all(client, streams.COMMANDS, 0, commands, timeout_seconds=60))
    for message in await all_sent(client, 3):
        await answer(client, 0, Reply(id=message["id"], ok=True))

    assert await asyncio.wait_for(asking, 5) == [None] * 3


async def test_each_of_many_commands_has_its_own_outcome(client: Redis) -> None:
    commands = [PausePool(pool=f"pool {n}") for n in range(3)]
    asking = asyncio.create_task(request_all(client, streams.COMMANDS, 0, commands, timeout_seconds=0.5))
    first, second, _ = await all_sent(client, 3)
    await answer(client, 0, Reply(id=first["id"], ok=True, result=1))
    await answer(client, 0, Reply(id=second["id"], ok=False, error=ReplyError(code="not_found", message="no pool")))

    done, refused, silent = await asking

    assert done == 1
    assert type(refused) is errors.NotFound
    assert type(silent) is errors.NoReply


async def test_one_command_that_is_too_large_keeps_all_of_them_back(client: Redis) -> None:
    template = {"blob": "x" * streams.MAX_MESSAGE_BYTES}
    large = UpdatePool.model_validate({"pool": "etl", "changes": {"base_job_template": template}})

    with pytest.raises(errors.Invalid, match="bytes"):
        await request_all(client, streams.COMMANDS, 0, [PausePool(pool="etl"), large])
    assert await client.exists(keys.key(0, "commands")) == 0


async def test_no_commands_are_no_answers(client: Redis) -> None:
    assert await request_all(client, streams.COMMANDS, 0, []) == []


async def test_what_redis_took_and_forgot_is_asked_again_however_short_the_outage(tmp_path: Path) -> None:
    with RewindableRedis(tmp_path) as server:
        asker, service = connect(server.url), connect(server.url)
        server.save()
        asking = asyncio.create_task(request(asker, streams.COMMANDS, 0, PausePool(pool="etl"), timeout_seconds=15))
        command = await sent(service)
        # In the main thread: the server ends with the thread that started it.
        server.rewind()

        again = await sent(service)
        assert again == command
        await answer(service, 0, Reply(id=again["id"], ok=True, result="done"))
        assert await asking == "done"
        await asker.aclose()
        await service.aclose()


async def test_after_an_outage_only_what_is_not_answered_is_sent_again(own_redis: EmbeddedRedis) -> None:
    asked, client = connect(own_redis.url, retries=0), connect(own_redis.url)
    commands = [PausePool(id=f"c{n}", pool="etl") for n in range(3)]
    told: list[int] = []
    asking = asyncio.create_task(
        request_all(asked, streams.COMMANDS, 0, commands, timeout_seconds=20, on_answer=told.append)
    )
    await all_sent(client, 3)
    await answer(client, 0, Reply(id="c1", ok=True, result="early"))

    async def heard() -> bool:
        return told == [1]

    await wait_until(heard, what="the first answer")
    await client.delete(keys.key(0, "commands"))
    own_redis.stop()
    own_redis.start()

    assert [message["id"] for message in await all_sent(client, 2)] == ["c0", "c2"]
    for ident in ("c0", "c2"):
        await answer(client, 0, Reply(id=ident, ok=True, result="late"))
    assert await asking == ["late", "early", "late"]
    await asked.aclose()
    await client.aclose()


async def test_the_time_is_asked_once_for_many_commands_and_anew_after_a_lost_connection(
    client: Redis, redis_url: str
) -> None:
    other = connect(redis_url)

    async def asked() -> int:
        return int((await client.info("commandstats")).get("cmdstat_time", {"calls": 0})["calls"])

    async def ask() -> None:
        with pytest.raises(errors.NoReply):
            await request(other, streams.COMMANDS, 0, PausePool(pool="etl"), 0.1)

    before = await asked()
    await ask()
    await ask()
    assert await asked() == before + 1
    await client.client_kill_filter(_type="normal", skipme=True)
    await ask()
    await ask()
    assert before + 2 <= await asked() <= before + 3
    deadlines = [message["deadline"] for message in await read_messages(client, "commands")]
    now_ms = await redis_now_ms(client)
    assert all(now_ms - 5000 < deadline <= now_ms + 100 for deadline in deadlines)
    await other.aclose()
