"""What every script shares: time, events, replies. The Lua is held against Python."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from penstock import keys, streams
from penstock.contracts.events import FOLLOWS_WITHIN_SECONDS, Event, event_id
from tests.scripts import evaluate
from tests.support import read_events

if TYPE_CHECKING:
    from redis.asyncio import Redis

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LEDGER = keys.key(0, "event_ledger")
RESOURCE = "prefect.work-pool.0e9f"
EVENTS = "-- INCLUDES clock events"
REPLIES = "-- INCLUDES clock replies\n-- ARGV command_id\n"
STATUS = f"publish_status('{RESOURCE}', 'prefect.work-pool.ready', '{{}}', '[]')"


def text_of(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0")


def moments() -> list[datetime]:
    edges = [
        datetime(year, month, day, 23, 59, 59, 999_999, tzinfo=UTC)
        for year in (1, 4, 100, 1600, 1900, 1969, 1972, 2000, 2023, 2024, 2100, 2400, 9999)
        for month, day in ((1, 1), (2, 28), (3, 1), (12, 31))
    ]
    leap_days = [datetime(year, 2, 29, tzinfo=UTC) for year in (4, 1600, 1904, 2000, 2024, 2396)]
    chance = random.Random(20261121)
    span = int((datetime(9999, 12, 31, tzinfo=UTC) - datetime(1, 1, 1, tzinfo=UTC)).total_seconds())
    anywhere = [
        datetime(1, 1, 1, tzinfo=UTC) + timedelta(seconds=chance.randrange(span), microseconds=chance.randrange(10**6))
        for _ in range(2000)
    ]
    return [EPOCH, EPOCH - timedelta(microseconds=1), *edges, *leap_days, *anywhere]


async def test_iso_spells_every_moment_as_python_does(client: Redis) -> None:
    arguments = []
    for moment in moments():
        since = moment - EPOCH
        arguments += [since.days * 86400 + since.seconds, since.microseconds]
    spelt = await evaluate(
        client,
        "-- INCLUDES clock\n-- ARGV ...moments",
        """
        local texts = {}
        for index = moments_from, #ARGV, 2 do texts[#texts + 1] = iso(tonumber(ARGV[index]), tonumber(ARGV[index + 1])) end
        return texts
        """,
        *arguments,
    )
    assert [text.decode() for text in spelt] == [text_of(moment) for moment in moments()]


async def test_now_is_the_time_of_redis(client: Redis) -> None:
    before: Any = await client.time()
    now_ms, now_iso = await evaluate(client, "-- INCLUDES clock", "return { string.format('%.0f', now_ms), now_iso }")
    after: Any = await client.time()
    assert before[0] * 1000 + before[1] // 1000 <= int(now_ms) <= after[0] * 1000 + after[1] // 1000
    assert abs(datetime.fromisoformat(now_iso.decode()).timestamp() * 1000 - int(now_ms)) < 1


async def test_event_ids_are_what_python_computes(client: Redis) -> None:
    chance = random.Random(5)
    alphabet = "abcXYZ019-._/ :|'\"\\äß漢字🚰\u200d"
    resources = ["", "ünï", *("".join(chance.choices(alphabet, k=chance.randrange(1, 60))) for _ in range(300))]
    pairs = [(resource, chance.choice((1, 2, 9, 10, 4096, 10**9, 2**53))) for resource in resources]
    found = await evaluate(
        client,
        EVENTS + "\n-- ARGV ...pairs",
        """
        local ids = {}
        for index = pairs_from, #ARGV, 2 do ids[#ids + 1] = event_id(ARGV[index], ARGV[index + 1]) end
        return ids
        """,
        *(part for pair in pairs for part in pair),
    )
    assert [text.decode() for text in found] == [event_id(resource, seq) for resource, seq in pairs]


async def test_each_resource_counts_its_own_events_without_gaps(client: Redis) -> None:
    for name in ("one", "two", "one", "one", "two"):
        await evaluate(
            client, EVENTS + "\n-- ARGV name", "publish_event('r.' .. name, 'n', '{}', '[]', '{\"a\":1}', nil)", name
        )
    events = await read_events(client)
    assert [event["seq"] for event in events] == [1, 1, 2, 3, 2]
    assert [event["id"] for event in events] == [
        event_id(f"r.{name}", seq) for name, seq in (("one", 1), ("two", 1), ("one", 2), ("one", 3), ("two", 2))
    ]
    assert {event["follows"] for event in events} == {None}


async def test_an_event_has_the_documented_shape_and_its_type_as_a_field(client: Redis) -> None:
    await evaluate(
        client,
        EVENTS,
        """
        publish_event('prefect.work-pool.7', 'prefect.work-pool.created', pool_resource('7', '"größe"', '"process"', true),
          '[' .. queue_resource('8', '"default"') .. ']', '{"from":1}', nil)
        """,
    )
    rows: Any = await client.xrange(keys.key(0, "events"))
    [(_, fields)] = rows
    assert list(fields) == [b"type", b"__data__"]
    assert fields[b"type"] == b"prefect.work-pool.created"
    body = orjson.loads(fields[b"__data__"])
    assert list(body) == ["id", "occurred", "event", "resource", "related", "payload", "follows", "seq"]
    event = Event.model_validate(body)
    assert event.resource == {
        "prefect.resource.id": "prefect.work-pool.7",
        "prefect.resource.name": "größe",
        "prefect.work-pool.type": "process",
        "prefect.resource.role": "work-pool",
    }
    assert event.related == [
        {
            "prefect.resource.id": "prefect.work-queue.8",
            "prefect.resource.name": "default",
            "prefect.resource.role": "work-queue",
        }
    ]
    assert event.payload == {"from": 1}


async def test_a_status_pool_resource_has_no_role_and_a_worker_names_its_type(client: Redis) -> None:
    pool, worker = await evaluate(
        client,
        EVENTS,
        """
        return { pool_resource('7', '"etl"', '"process"', false),
          worker_resource('prefect.worker.process.w-1', '"w 1"', '"process"', '"1.0"') }
        """,
    )
    assert "prefect.resource.role" not in orjson.loads(pool)
    assert orjson.loads(worker) == {
        "prefect.resource.id": "prefect.worker.process.w-1",
        "prefect.resource.name": "w 1",
        "prefect.version": "1.0",
        "prefect.worker-type": "process",
    }


async def test_a_status_event_follows_the_one_before_it(client: Redis) -> None:
    for _ in range(3):
        await evaluate(client, EVENTS, STATUS)
    first, second, third = await read_events(client)
    assert (first["follows"], second["follows"], third["follows"]) == (None, first["id"], second["id"])


async def test_another_event_of_the_resource_in_between_is_not_followed(client: Redis) -> None:
    await evaluate(client, EVENTS, STATUS)
    await evaluate(client, EVENTS, f"publish_event('{RESOURCE}', 'updated', '{{}}', '[]', '{{}}', nil)")
    await evaluate(client, EVENTS, STATUS)
    first, updated, second = await read_events(client)
    assert updated["follows"] is None
    assert second["follows"] == first["id"]
    assert second["seq"] == 3


@pytest.mark.parametrize(
    ("age_seconds", "follows"), [(FOLLOWS_WITHIN_SECONDS - 5, True), (FOLLOWS_WITHIN_SECONDS, False)]
)
async def test_it_is_followed_for_ten_minutes_only(client: Redis, age_seconds: int, follows: bool) -> None:
    await evaluate(client, EVENTS, STATUS)
    last: Any = await client.hget(LEDGER, f"{RESOURCE}|status")
    last_id, _, at = last.decode().partition(" ")
    await client.hset(LEDGER, f"{RESOURCE}|status", f"{last_id} {int(at) - age_seconds * 1000}")
    await evaluate(client, EVENTS, STATUS)
    first, second = await read_events(client)
    assert second["follows"] == (first["id"] if follows else None)


async def test_the_event_stream_is_trimmed_by_length(client: Redis) -> None:
    events = keys.key(0, "events")
    extra = 5_000
    pipe = client.pipeline(transaction=False)
    for number in range(streams.EVENTS.max_length + extra):
        pipe.xadd(events, {"n": number})
        if number % 20_000 == 0:
            await pipe.execute()
    await pipe.execute()
    await evaluate(client, EVENTS, STATUS)
    assert await client.xlen(events) < streams.EVENTS.max_length + 200


async def test_an_answer_reaches_the_caller_and_is_kept_for_a_re_delivery(client: Redis) -> None:
    sent = await evaluate(client, REPLIES, "return accept(command_id, '{\"a\":[]}')", "c1")
    popped = await client.lpop(keys.key(0, "reply", "c1"))
    assert popped == sent
    assert orjson.loads(sent) == {"id": "c1", "ok": True, "result": {"a": []}}
    assert await client.get(keys.key(0, "answer", "c1")) == sent
    assert 0 < await client.ttl(keys.key(0, "answer", "c1")) <= streams.ANSWER_EXPIRE_SECONDS


async def test_an_answer_nobody_pops_expires(client: Redis) -> None:
    await evaluate(client, REPLIES, "return accept(command_id, '1')", "c1")
    assert 0 < await client.ttl(keys.key(0, "reply", "c1")) <= streams.REPLY_EXPIRE_SECONDS


async def test_a_re_delivered_command_finds_its_answer(client: Redis) -> None:
    body = """
        local earlier = earlier_answer(command_id)
        if earlier then return 'again ' .. send_answer(command_id, earlier) end
        redis.call('INCR', key_liveness_tick())
        return accept(command_id, redis.call('GET', key_liveness_tick()))
        """
    header = REPLIES + "-- USES liveness_tick"
    first = await evaluate(client, header, body, "c1")
    again = await evaluate(client, header, body, "c1")
    assert again == b"again " + first
    assert await client.get(keys.key(0, "liveness_tick")) == b"1"


async def test_a_command_without_id_is_answered_nowhere(client: Redis) -> None:
    found = await evaluate(
        client, REPLIES, "accept(command_id, '1') return earlier_answer(command_id) and 'found' or 'nothing'", ""
    )
    assert found == b"nothing"
    assert await client.keys("*") == []


async def test_a_refusal_survives_quotes_and_other_scripts(client: Redis) -> None:
    message = 'no pool "größe"\\\n\t漢'
    raw = await evaluate(
        client, REPLIES + "-- ARGV message", "return refuse(command_id, 'not_found', message, nil)", "c1", message
    )
    assert orjson.loads(raw) == {
        "id": "c1",
        "ok": False,
        "error": {"code": "not_found", "message": message, "hint": ""},
    }


@pytest.mark.parametrize(("offset_ms", "expired"), [(-1000, 1), (1000, 0), (None, 0)])
async def test_a_deadline_is_judged_by_redis_time(client: Redis, offset_ms: int | None, expired: int) -> None:
    seconds, microseconds = await client.time()
    deadline = "" if offset_ms is None else seconds * 1000 + microseconds // 1000 + offset_ms
    found = await evaluate(
        client, REPLIES + "-- ARGV deadline", "local _ = command_id return expired(deadline) and 1 or 0", "c", deadline
    )
    assert found == expired


async def test_keys_formed_inside_a_script_are_those_python_spells(client: Redis) -> None:
    body = "return { " + ", ".join(f"key_{family}('a/b')" for family in keys.FAMILIES) + " }"
    for partition in (0, 17):
        found = await evaluate(client, f"-- USES {' '.join(keys.FAMILIES)}", body, partition=partition)
        assert [text.decode() for text in found] == [
            keys.key(partition, family, "a/b" if "{}" in template else "") for family, template in keys.FAMILIES.items()
        ]
