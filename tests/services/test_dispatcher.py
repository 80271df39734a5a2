"""The dispatcher's messages on the bus, through the same delivery as in production."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from penstock import keys
from penstock.bus.broker import ensure_group
from penstock.bus.connection import redis_now_ms
from penstock.bus.delivery import deliver
from penstock.bus.entries import Entry
from penstock.bus.health import Health
from penstock.contracts.pools import PoolChanged
from penstock.contracts.runs import ClaimRuns, ReportRuns, RunReport, RunSpec, SubmitRuns, SubmittedRun, new_run_id
from penstock.contracts.workers import AnnounceWorker, LoseWorker
from services.dispatcher.app import build
from services.dispatcher.settings import DispatcherSettings
from tests.definitions import define_pool, define_queue
from tests.dispatching import assigned, state_of
from tests.support import read_messages, wait_until

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from penstock.bus.service import Service
    from penstock.contracts.base import Message


@pytest.fixture
def dispatcher(client: Redis) -> Service:
    return build(DispatcherSettings(), client, Health("dispatcher"))


async def send(
    client: Redis, dispatcher: Service, *messages: Message | dict[str, Any] | bytes, stream: str = "dispatch"
) -> None:
    """Hand messages to the dispatcher as one batch, spelled as a plain client would."""
    subscription = next(each for each in dispatcher.subscriptions if each.stream.name == stream)
    entries = []
    for number, message in enumerate(messages):
        body = (
            message
            if isinstance(message, bytes)
            else orjson.dumps(message)
            if isinstance(message, dict)
            else message.wire()
        )
        entries.append(Entry(0, stream, f"{number + 1}-0", {b"__data__": body}))
    await deliver(client, subscription, entries)


async def reply_to(client: Redis, command_id: str) -> dict[str, Any]:
    popped: Any = await client.lpop(keys.key(0, "reply", command_id))
    assert popped is not None, "no reply"
    reply: dict[str, Any] = orjson.loads(popped)
    return reply


def run(queue: str = "default") -> SubmittedRun:
    return SubmittedRun(id=new_run_id(0), name="r", queue=queue, spec=RunSpec(command="true"))


async def test_a_submission_is_answered_with_the_ids_it_accepted(client: Redis, dispatcher: Service) -> None:
    await define_pool(client, "etl")
    runs = [run(), run()]

    await send(client, dispatcher, SubmitRuns(id="c1", pool="etl", runs=runs))

    reply = await reply_to(client, "c1")
    assert reply["ok"]
    assert reply["result"] == {"accepted": [each.id for each in runs], "refused": [], "same": {}}


async def test_an_unknown_pool_is_refused_and_buried_with_the_reason(client: Redis, dispatcher: Service) -> None:
    await send(client, dispatcher, SubmitRuns(id="c1", pool="nowhere", runs=[run()]))

    reply = await reply_to(client, "c1")
    assert (reply["ok"], reply["error"]["code"]) == (False, "not_found")
    assert "nowhere" in reply["error"]["message"]
    (letter,) = await read_messages(client, "dead")
    assert letter["reason"] == "work pool 'nowhere' does not exist"
    assert letter["stream"] == keys.key(0, "dispatch")


@pytest.mark.parametrize("late", [False, True], ids=["in time", "the deadline passes meanwhile"])
async def test_a_submission_that_names_a_missing_queue_has_it_created(
    client: Redis, dispatcher: Service, late: bool
) -> None:
    pool = await define_pool(client, "etl")
    deadline = await redis_now_ms(client) + 1000 if late else None

    async def past_the_deadline() -> bool:
        return deadline is None or await redis_now_ms(client) > deadline

    async def registry() -> None:
        entries: Any = await wait_until(
            lambda: client.xrange(keys.key(0, "commands")), what="the dispatcher asks for the queue"
        )
        command = orjson.loads(entries[0][1][b"__data__"])
        assert (command["type"], command["queue"], command["if_missing"]) == ("create_queue", "new", True)
        await define_queue(client, pool, "new")
        await wait_until(past_the_deadline, what="the deadline to pass")
        answer = orjson.dumps({"id": command["id"], "ok": True, "result": {}})
        await client.rpush(keys.key(0, "reply", command["id"]), answer)

    playing = asyncio.create_task(registry())
    fresh = run("new")
    await send(client, dispatcher, SubmitRuns(id="c1", pool="etl", runs=[fresh, run()], deadline=deadline))
    await playing

    assert len((await reply_to(client, "c1"))["result"]["accepted"]) == 2
    assert await client.zrange(keys.key(0, "waiting", pool.queues["new"]), 0, -1) == [fresh.id.encode()]


async def test_one_bad_run_of_a_submission_is_buried_alone(client: Redis, dispatcher: Service) -> None:
    await define_pool(client, "etl")
    good = run()
    bad = {"id": new_run_id(0), "name": "x", "spec": {"entrypoint": "no-function"}}

    message = {"type": "submit_runs", "pool": "etl", "runs": [bad, orjson.loads(good.model_dump_json())]}
    await send(client, dispatcher, message)

    assert await state_of(client, good.id) == "SCHEDULED"
    (letter,) = await read_messages(client, "dead")
    assert "path/to/file.py:function" in letter["reason"]
    assert letter["element"]["id"] == bad["id"]


async def test_one_bad_report_of_many_is_buried_alone(client: Redis, dispatcher: Service) -> None:
    pool = await define_pool(client, "etl")
    announcement = AnnounceWorker(pool_id=pool.id, pool="etl", worker="w1", boot_id="b", seq=1, slots=5, queues=[])
    submission = SubmitRuns(pool="etl", runs=[run()])
    await send(client, dispatcher, announcement, submission)
    (held,) = await assigned(client, "etl")

    good = {"run": held["id"], "token": held["token"], "epoch": 1, "state": "RUNNING"}
    bad = {"run": held["id"], "token": held["token"], "epoch": 1, "state": "SLEEPING"}
    await send(client, dispatcher, {"type": "report_runs", "pool": "etl", "worker": "w1", "reports": [bad, good]})

    assert await state_of(client, held["id"]) == "RUNNING"
    (letter,) = await read_messages(client, "dead")
    assert "reports.0.state" in letter["reason"]


async def test_garbage_on_dispatch_is_buried_and_the_rest_of_the_batch_is_handled(
    client: Redis, dispatcher: Service
) -> None:
    await define_pool(client, "etl")
    good = run()

    await send(
        client,
        dispatcher,
        b"not json",
        b"[1, 2]",
        b'{"type":"dance"}',
        b'{"type":"report_runs"}',
        b"\xff\xfe",
        SubmitRuns(pool="etl", runs=[good]),
    )

    assert await state_of(client, good.id) == "SCHEDULED"
    assert len(await read_messages(client, "dead")) == 5


async def test_a_whole_life_in_one_batch_in_any_order(client: Redis, dispatcher: Service) -> None:
    pool = await define_pool(client, "etl")
    here = AnnounceWorker(pool_id=pool.id, pool="etl", worker="w1", boot_id="b", seq=1, slots=5, queues=[])
    await send(client, dispatcher, SubmitRuns(pool="etl", runs=[run()]), here)
    (held,) = await assigned(client, "etl")

    def said(state: Any) -> ReportRuns:
        report = RunReport(run=held["id"], token=held["token"], epoch=1, state=state, started_ms=1)
        return ReportRuns(pool="etl", worker="w1", reports=[report])

    gone = LoseWorker(pool_id=pool.id, pool="etl", worker="w1", boot_id="b", seq=2, reason="stopped")
    await send(client, dispatcher, said("COMPLETED"), said("RUNNING"))
    await send(client, dispatcher, gone)

    assert await state_of(client, held["id"]) == "COMPLETED"


async def test_asking_for_a_claim_is_answered_when_it_has_been_done(client: Redis, dispatcher: Service) -> None:
    await define_pool(client, "etl")

    await send(client, dispatcher, ClaimRuns(id="c1", pool="etl"))

    assert (await reply_to(client, "c1"))["result"] == {"claimed": 0}


async def test_a_resumed_pool_is_looked_at_when_its_definition_changes(client: Redis, dispatcher: Service) -> None:
    pool = await define_pool(client, "etl", paused=True)
    here = AnnounceWorker(pool_id=pool.id, pool="etl", worker="w1", boot_id="b", seq=1, slots=5, queues=[])
    await send(client, dispatcher, here, SubmitRuns(pool="etl", runs=[run()]))
    assert await assigned(client, "etl") == []
    await client.hset(keys.key(0, "pool", pool.id), "is_paused", "false")

    await send(client, dispatcher, PoolChanged(pool_id=pool.id, pool="etl"), stream="definitions")

    assert len(await assigned(client, "etl")) == 1


async def test_a_run_scheduled_for_later_is_handed_out_when_it_is_due_and_not_before(
    client: Redis, dispatcher: Service
) -> None:
    pool = await define_pool(client, "etl")
    here = AnnounceWorker(pool_id=pool.id, pool="etl", worker="w1", boot_id="b", seq=1, slots=5, queues=[])
    await send(client, dispatcher, here)
    clock = asyncio.create_task(dispatcher.loops["due clock"]())
    due_ms = await redis_now_ms(client) + 1_500
    runs = [run().model_copy(update={"scheduled_time": None})]
    message = orjson.loads(SubmitRuns(pool="etl", runs=runs).wire())
    message["runs"][0]["scheduled_time"] = due_ms / 1000
    await send(client, dispatcher, message)
    assert await assigned(client, "etl") == []

    (told,) = await wait_until(lambda: assigned(client, "etl"), what="the run is due", every=0.001)
    clock.cancel()

    claimed_ms = int(await client.hget(keys.key(0, "run", told["id"]), "claimed") or 0)
    assert 0 <= claimed_ms - due_ms < 500


async def test_an_earlier_due_time_wakes_the_clock_that_waits_for_a_later_one(
    client: Redis, dispatcher: Service
) -> None:
    pool = await define_pool(client, "etl")
    here = AnnounceWorker(pool_id=pool.id, pool="etl", worker="w1", boot_id="b", seq=1, slots=5, queues=[])
    await send(client, dispatcher, here)
    clock = asyncio.create_task(dispatcher.loops["due clock"]())
    now_ms = await redis_now_ms(client)
    for offset in (60_000, 300):
        message = orjson.loads(SubmitRuns(pool="etl", runs=[run()]).wire())
        message["runs"][0]["scheduled_time"] = (now_ms + offset) / 1000
        await send(client, dispatcher, message)

    (told,) = await wait_until(lambda: assigned(client, "etl"), what="the earlier run is due", every=0.001)
    clock.cancel()

    claimed_ms = int(await client.hget(keys.key(0, "run", told["id"]), "claimed") or 0)
    assert 0 <= claimed_ms - (now_ms + 300) < 400


async def test_what_a_dead_dispatcher_knew_falls_due_at_another(client: Redis, dispatcher: Service) -> None:
    """The due time was stored by a dispatcher whose clock no longer runs."""
    pool = await define_pool(client, "etl")
    here = AnnounceWorker(pool_id=pool.id, pool="etl", worker="w1", boot_id="b", seq=1, slots=5, queues=[])
    await send(client, dispatcher, here)
    other = build(DispatcherSettings(), client, Health("dispatcher"))
    clock = asyncio.create_task(other.loops["due clock"]())
    message = orjson.loads(SubmitRuns(pool="etl", runs=[run()]).wire())
    message["runs"][0]["scheduled_time"] = (await redis_now_ms(client) + 300) / 1000
    await send(client, dispatcher, message)

    await wait_until(lambda: assigned(client, "etl"), what="another dispatcher's clock claims it")
    clock.cancel()


async def test_groups_can_be_made_before_anything_was_sent(client: Redis, dispatcher: Service) -> None:
    for subscription in dispatcher.subscriptions:
        assert await ensure_group(client, subscription.stream, 0, subscription.group)
        assert not await ensure_group(client, subscription.stream, 0, subscription.group)


async def test_many_pools_in_one_batch_each_get_their_own(client: Redis, dispatcher: Service) -> None:
    for name in ("a", "b", "c"):
        pool = await define_pool(client, name)
        await send(
            client,
            dispatcher,
            AnnounceWorker(pool_id=pool.id, pool=name, worker="w1", boot_id="b", seq=1, slots=5, queues=[]),
        )

    await send(client, dispatcher, *(SubmitRuns(pool=name, runs=[run()]) for name in ("a", "b", "c")))

    for name in ("a", "b", "c"):
        assert len(await assigned(client, name)) == 1


async def test_a_run_id_of_another_partition_is_refused_with_the_digits_it_needs(
    client: Redis, dispatcher: Service
) -> None:
    await define_pool(client, "etl")
    foreign = run().model_copy(update={"id": new_run_id(0x1234)})

    await send(client, dispatcher, SubmitRuns(id="c1", pool="etl", runs=[foreign]))

    (refused,) = (await reply_to(client, "c1"))["result"]["refused"]
    assert (refused["run"], refused["code"]) == (foreign.id, "invalid")
    assert "0000" in refused["message"]


async def test_more_pools_due_at_once_than_one_look_takes_are_all_served_at_once(
    client: Redis, dispatcher: Service
) -> None:
    names = [f"p{number}" for number in range(130)]
    for name in names:
        pool = await define_pool(client, name)
        here = AnnounceWorker(pool_id=pool.id, pool=name, worker="w1", boot_id="b", seq=1, slots=5, queues=[])
        await send(client, dispatcher, here)
    due_ms = await redis_now_ms(client) + 2_000
    for name in names:
        message = orjson.loads(SubmitRuns(pool=name, runs=[run()]).wire())
        message["runs"][0]["scheduled_time"] = due_ms / 1000
        await send(client, dispatcher, message)
    clock = asyncio.create_task(dispatcher.loops["due clock"]())

    async def all_assigned() -> bool:
        return all([await assigned(client, name) for name in names])

    await wait_until(all_assigned, what="every pool's run is handed out")
    clock.cancel()

    claims = [(await assigned(client, name))[0]["id"] for name in names]
    late = [int(await client.hget(keys.key(0, "run", run_id), "claimed") or 0) - due_ms for run_id in claims]
    # A second look a second later, as for what a dead dispatcher knew, would show here.
    assert min(late) >= 0
    assert max(late) < 900
