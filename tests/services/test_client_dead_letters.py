from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from penstock import keys
from penstock.bus.dead_letters import MAX_KEPT_BYTES, DeadLetter, bury
from penstock.bus.entries import Entry
from penstock.client import Penstock
from penstock.errors import Conflict, Invalid, NotFound

if TYPE_CHECKING:
    from redis.asyncio import Redis

WHOLE = {b"type": b"x", b"__data__": b"\xff\x00", b"note": "ü".encode()}


async def bury_entry(client: Redis, fields: dict[bytes, bytes], *, element: Any = None, partition: int = 0) -> None:
    entry = Entry(partition, "commands", "7-0", fields)
    await bury(client, [DeadLetter(entry, "because", 3, element)], "pool_registry")


async def test_a_dead_entry_is_told_with_reason_and_origin(client: Redis) -> None:
    await bury_entry(client, WHOLE)

    (entry,) = await Penstock(client, 1).dead.read(10)

    assert (entry.reason, entry.deliveries, entry.group) == ("because", 3, "pool_registry")
    assert (entry.stream, entry.entry_id, entry.whole) == (keys.key(0, "commands"), "7-0", True)
    assert entry.content["fields"]["note"] == {"text": "ü"}


async def test_a_retried_entry_is_back_on_its_stream_as_it_was(client: Redis) -> None:
    await bury_entry(client, WHOLE)
    dead = Penstock(client, 1).dead

    sent = await dead.retry([entry.id for entry in await dead.read(10)])

    assert await client.xrange(keys.key(0, "commands")) == [(sent[0].encode(), WHOLE)]
    assert await dead.read(10) == []


async def test_an_entry_that_was_not_kept_whole_is_not_sent_again(client: Redis) -> None:
    await bury_entry(client, WHOLE)
    await bury_entry(client, {b"__data__": b"x" * (MAX_KEPT_BYTES + 1)})
    await bury_entry(client, WHOLE, element={"bad": 1})
    dead = Penstock(client, 1).dead
    entries = await dead.read(10)

    assert [entry.whole for entry in entries] == [False, False, True]
    with pytest.raises(Conflict, match="was not kept whole"):
        await dead.retry([entry.id for entry in reversed(entries)])
    assert await client.exists(keys.key(0, "commands")) == 0
    assert len(await dead.read(10)) == 3


async def test_a_dropped_entry_is_forgotten(client: Redis) -> None:
    await bury_entry(client, WHOLE)
    await bury_entry(client, WHOLE, partition=1)
    dead = Penstock(client, 2).dead
    first, second = await dead.read(10)

    await dead.drop([first.id])

    assert [entry.id for entry in await dead.read(10)] == [second.id]


async def test_an_entry_that_names_a_stream_of_nobody_is_not_sent_there(client: Redis) -> None:
    fields: dict[Any, Any] = {"__data__": '{"stream":"mine","fields":{"a":{"text":"b"}}}'}
    await client.xadd(keys.key(0, "dead"), fields)
    dead = Penstock(client, 1).dead

    with pytest.raises(Conflict):
        await dead.retry([entry.id for entry in await dead.read(10)])
    assert await client.exists("mine") == 0


LETTER = '"reason":"r","stream":"penstock:{0}:commands","entry_id":"7-0","group":"g"'


@pytest.mark.parametrize(
    "fields",
    [
        {"x": "y"},
        {"__data__": "{"},
        {"__data__": "[1]"},
        {"__data__": '{"deliveries":"often"}'},
        {"__data__": f'{{{LETTER},"deliveries":"often"}}'},
        {"__data__": f'{{{LETTER},"deliveries":1,"fields":7}}'},
        {"__data__": f'{{{LETTER},"deliveries":1,"fields":{{"a":7}}}}'},
        {"__data__": f'{{{LETTER},"deliveries":1,"fields":{{"a":{{"text":7}}}}}}'},
    ],
)
async def test_an_unreadable_dead_entry_can_be_seen_and_dropped(client: Redis, fields: dict[Any, Any]) -> None:
    await client.xadd(keys.key(0, "dead"), fields)
    dead = Penstock(client, 1).dead
    (entry,) = await dead.read(10)

    assert entry.reason == "this entry of the dead stream cannot be read"
    await dead.drop([entry.id])
    assert await dead.read(10) == []


@pytest.mark.parametrize("kept", ["{}", '{"base64":"%"}', '{"text":null}', '{"text":"a","bytes":9}'])
async def test_a_field_nobody_can_restore_is_not_sent_again(client: Redis, kept: str) -> None:
    letter = f'{{{LETTER},"deliveries":1,"fields":{{"__data__":{kept}}}}}'
    await client.xadd(keys.key(0, "dead"), {"__data__": letter})
    dead = Penstock(client, 1).dead

    with pytest.raises(Conflict, match="was not kept whole"):
        await dead.retry([entry.id for entry in await dead.read(10)])
    assert await client.exists(keys.key(0, "commands")) == 0


@pytest.mark.parametrize(
    "ident", [f"0/{2**64}-0", f"0/1-{2**64}", "0/\u0663-0", "\u0663/1-1", f"{'9' * 5000}/1-1", "1"]
)
async def test_what_redis_takes_for_no_entry_is_no_id(client: Redis, ident: str) -> None:
    with pytest.raises(Invalid, match="is no id"):
        await Penstock(client, 1).dead.find([ident])


async def test_ids_are_checked(client: Redis) -> None:
    dead = Penstock(client, 1).dead

    with pytest.raises(Invalid, match="is no id"):
        await dead.drop(["x"])
    with pytest.raises(NotFound, match="there is no dead entry"):
        await dead.drop(["0/1-1"])
    with pytest.raises(NotFound, match="no partition 3"):
        await dead.drop(["3/1-1"])
