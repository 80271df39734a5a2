"""What waits must be small: how the hash of a run keeps its queue and its specification, and that nobody sees it."""

from __future__ import annotations

import asyncio
import random
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from penstock import keys
from penstock.client.records import queue_id_of, spec_of
from penstock.client.run_store import RunStore
from penstock.contracts.runs import RunSpec
from tests.definitions import define_pool
from tests.dispatching import announce, assigned, submit
from tests.scripts import evaluate

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from services.dispatcher.store import DispatchStore

PACK = "-- INCLUDES clock events runs packing\n-- ARGV ...values"
EACH = "local made = {} for index = values_from, #ARGV do made[#made + 1] = %s end return made"
SPECS = {
    "entrypoint and parameters": RunSpec(entrypoint="flows/etl.py:main", parameters={"day": 1, "text": '"}\n\\'}),
    "no parameters": RunSpec(entrypoint="flows/etl.py:main"),
    "more behind": RunSpec(entrypoint="a.py:f", parameters={"a": {}}, env={"A": "\n"}, tags=["ä"]),
    "working directory instead": RunSpec(entrypoint="a.py:f", working_dir="/srv"),
    "not ASCII": RunSpec(entrypoint="größe/数据.py:main", parameters={"größe": "数据"}),
    "a quote": RunSpec(entrypoint='a".py:f', parameters={"a": 1}),
    "a backslash": RunSpec(entrypoint="a\\.py:f", parameters={"a": 1}),
    "a line break": RunSpec(entrypoint="a\n.py:f", parameters={"a": 1}),
    "a brace": RunSpec(entrypoint="{a}.py:f", parameters={"a": 1}),
    "a brace inside": RunSpec(entrypoint="a{}.py:f", parameters={"a": 1}),
    "what looks like parameters": RunSpec(entrypoint='a","parameters":{}.py:f', parameters={"a": 1}),
    "a command": RunSpec(command=["echo", '{"entrypoint":"a.py:f","parameters":{}}'], parameters={"a": 1}),
}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
async def test_worker_and_reader_get_the_specification_that_was_submitted(
    client: Redis, store: DispatchStore, spec: RunSpec
) -> None:
    pool = await define_pool(client, "etl")
    (run_id,) = await submit(store, "etl", spec=spec)
    (read,) = await RunStore(client, 1).read_runs([run_id])

    await announce(store, pool)

    said = spec.model_dump(mode="json", exclude_defaults=True)
    assert [run["spec"] for run in await assigned(client, "etl")] == [said]
    assert read.spec == said
    assert (read.pool, read.queue) == ("etl", "default")


async def test_any_text_comes_back_as_it_was(client: Redis) -> None:
    draw = random.Random(20261128)
    pieces = ['{"entrypoint":"', '","parameters":', "}", "{", "\n", "\\", '"', "a.py:f", "ä", ""]
    starts = ["{", pieces[0], f"{pieces[0]}a.py:f{pieces[1]}"]
    texts = [draw.choice(starts) + "".join(draw.choices(pieces, k=draw.randrange(8))) for _ in range(3000)]
    packed: Any = await evaluate(client, PACK, EACH % "pack_spec(ARGV[index])", *texts)
    assert any(len(small) < len(text.encode()) for small, text in zip(packed, texts, strict=True))

    unpacked = await evaluate(client, PACK, EACH % "table.concat({ unpack_spec(ARGV[index]) })", *packed)

    assert [text.decode() for text in unpacked] == texts
    assert [spec_of({b"spec": small}).decode() for small in packed] == texts


async def test_an_id_is_kept_as_its_bytes(client: Redis) -> None:
    ids = [str(uuid.UUID(int=number)) for number in (0, 1, 2**128 - 1)] + [str(uuid.uuid4()) for _ in range(200)]

    packed: Any = await evaluate(client, PACK, EACH % "pack_id(ARGV[index])", *ids)

    assert packed == [uuid.UUID(ident).bytes for ident in ids]
    assert [queue_id_of({b"queue": small}) for small in packed] == ids
    unpacked = await evaluate(client, PACK, EACH % "queue_ids_[ARGV[index]]", *packed)
    assert [text.decode() for text in unpacked] == ids


async def test_300_bytes_of_parameters_wait_in_700_bytes(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    spec = RunSpec(entrypoint="flows/etl.py:main", parameters={"text": "x" * 289})
    await asyncio.gather(*(submit(store, "etl", count=1000, spec=spec) for _ in range(3)))

    line = keys.key(0, "waiting", pool.queues["default"])
    runs: Any = await client.zrange(line, 0, 0)
    of_run = await client.memory_usage(keys.key(0, "run", runs[0].decode()), samples=0)
    of_line = await client.memory_usage(line, samples=0)

    assert of_run is not None
    assert of_line is not None
    assert of_run + of_line / await client.zcard(line) <= 700
