from __future__ import annotations

import hashlib
import random
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from penstock import keys
from penstock.bus.connection import redis_now_ms
from penstock.contracts.events import event_id, worker_identity
from penstock.contracts.queues import CreateQueue
from penstock.contracts.workers import AnnounceWorker, LoseWorker, RefuseWorker
from services.heartbeat_monitor import rules
from tests.definitions import DefinedPool, define_pool, define_queue
from tests.heartbeats import Monitor, delivered, event_names, heartbeat
from tests.support import read_events, read_messages, wait_until

if TYPE_CHECKING:
    from redis.asyncio import Redis


@pytest.fixture
def monitor(client: Redis) -> Monitor:
    return Monitor(client)


def shape(event: dict[str, Any]) -> dict[str, Any]:
    """An event without what differs every time."""
    return {name: value for name, value in event.items() if name not in ("id", "occurred", "seq")}


async def test_a_first_heartbeat_makes_worker_pool_and_queues_ready_in_this_order_with_these_events(
    monitor: Monitor, client: Redis
) -> None:
    pool = await define_pool(client, "etl", queues={"urgent": {"priority": 1}, "later": {"priority": 7}})

    assert await monitor.beat("etl", "W 1", version="0.1.0", slots=3) == "changed"

    worker = {
        "prefect.resource.id": "prefect.worker.process.w-1",
        "prefect.resource.name": "W 1",
        "prefect.version": "0.1.0",
        "prefect.worker-type": "process",
    }
    of_worker = [
        {
            "prefect.resource.id": f"prefect.work-pool.{pool.id}",
            "prefect.resource.role": "work-pool",
            "prefect.resource.name": "etl",
        }
    ]
    pool_labels = {
        "prefect.resource.id": f"prefect.work-pool.{pool.id}",
        "prefect.resource.name": "etl",
        "prefect.work-pool.type": "process",
    }

    def queue_ready(name: str) -> dict[str, Any]:
        return {
            "event": "prefect.work-queue.ready",
            "resource": {
                "prefect.resource.id": f"prefect.work-queue.{pool.queues[name]}",
                "prefect.resource.name": name,
                "prefect.resource.role": "work-queue",
            },
            "related": [{**pool_labels, "prefect.resource.role": "work-pool"}],
            "payload": {},
            "follows": None,
        }

    events = await read_events(client)
    assert [shape(event) for event in events] == [
        {
            "event": "prefect.worker.started",
            "resource": worker,
            "related": of_worker,
            "payload": {},
            "follows": None,
        },
        {
            "event": "penstock.worker.online",
            "resource": worker,
            "related": of_worker,
            "payload": {"boot_id": "boot-1", "slots": 3},
            "follows": None,
        },
        {
            "event": "prefect.work-pool.ready",
            "resource": pool_labels,
            "related": [],
            "payload": {},
            "follows": None,
        },
        queue_ready("urgent"),
        queue_ready("default"),
        queue_ready("later"),
    ]
    assert [event["seq"] for event in events] == [1, 2, 1, 1, 1, 1]


async def test_a_worker_that_stops_takes_its_pool_and_queues_along_with_these_events(
    monitor: Monitor, client: Redis
) -> None:
    pool = await define_pool(client, "etl")
    await monitor.beat("etl", "w1", version="3.9.1", entry_id="1789000000123-0")
    started = (await read_events(client))[0]

    assert await monitor.beat("etl", "w1", version="3.9.1", stopping=True, entry_id="1789000001456-0") == "changed"

    stopped, offline, pool_down, queue_down = (await read_events(client))[4:]
    assert shape(stopped) == {**shape(started), "event": "prefect.worker.stopped", "follows": started["id"]}
    assert offline["event"] == "penstock.worker.offline"
    assert offline["payload"] == {"reason": "stopped", "last_heartbeat": "2026-09-10T00:26:41.456000Z"}
    pool_up = next(event for event in await read_events(client) if event["event"] == "prefect.work-pool.ready")
    assert shape(pool_down) == {**shape(pool_up), "event": "prefect.work-pool.not-ready", "follows": pool_up["id"]}
    assert queue_down["event"] == "prefect.work-queue.not-ready"
    assert queue_down["follows"] is None
    assert queue_down["related"][0]["prefect.resource.role"] == "work-pool"
    assert (await monitor.worker(pool))["status"] == "OFFLINE"
    assert await monitor.deadline(pool) is None
    announced, lost = await read_messages(client, "dispatch")
    assert LoseWorker.model_validate(lost).reason == "stopped"
    assert lost["seq"] > announced["seq"]
    assert 0 < await client.ttl(keys.key(0, "worker", f"{pool.id}/w1")) <= 86_400


async def test_a_repeated_heartbeat_moves_the_deadline_and_says_nothing(monitor: Monitor, client: Redis) -> None:
    pool = await define_pool(client, "etl")
    now = await redis_now_ms(client)
    await monitor.beat("etl", entry_id=f"{now}-0", interval_seconds=2, seq=1)
    before = len(await read_events(client)), len(await read_messages(client, "dispatch"))

    assert await monitor.beat("etl", entry_id=f"{now + 1500}-0", interval_seconds=2, seq=2) == "renewed"

    assert await monitor.deadline(pool) == now + 1500 + 6000
    worker = await monitor.worker(pool)
    assert (worker["entry_id"], worker["seq"], worker["last_heartbeat_ms"]) == (f"{now + 1500}-0", "2", str(now + 1500))
    assert (len(await read_events(client)), len(await read_messages(client, "dispatch"))) == before


async def test_twenty_first_heartbeats_at_once_make_a_pool_ready_once(monitor: Monitor, client: Redis) -> None:
    await define_pool(client, "etl")
    batch = [delivered(heartbeat("etl", f"w{n}"), await monitor.next_entry_id()) for n in range(20)]

    assert await monitor.store.apply_heartbeats(0, batch) == ["changed"] * 20

    names = [event["event"] for event in await read_events(client)]
    assert names.count("penstock.worker.online") == 20
    assert names.count("prefect.work-pool.ready") == 1
    assert names.count("prefect.work-queue.ready") == 1


async def test_applying_a_batch_again_changes_nothing(monitor: Monitor, client: Redis) -> None:
    await define_pool(client, "etl")
    batch = [delivered(heartbeat("etl", f"w{n % 3}", slots=n), await monitor.next_entry_id()) for n in range(9)]
    await monitor.store.apply_heartbeats(0, batch)
    before = await read_events(client), await read_messages(client, "dispatch")

    assert await monitor.store.apply_heartbeats(0, batch) == ["stale"] * 9

    assert (await read_events(client), await read_messages(client, "dispatch")) == before


async def test_a_worker_of_the_wrong_type_is_told_why_once_and_makes_nothing_ready(
    monitor: Monitor, client: Redis
) -> None:
    pool = await define_pool(client, "etl", type="docker")

    assert [await monitor.beat("etl", "w1"), await monitor.beat("etl", "w1")] == ["wrong_type"] * 2

    (told,) = await read_messages(client, "inbox", "etl/w1")
    refusal = RefuseWorker.model_validate(told)
    assert (refusal.boot_id, refusal.code) == ("boot-1", "wrong_type")
    assert refusal.reason == 'work pool "etl" takes workers of type "docker", not "process"'
    assert await event_names(client) == ["penstock.worker.refused w1"]
    (event,) = await read_events(client)
    assert event["payload"] == {"boot_id": "boot-1", "code": "wrong_type", "reason": refusal.reason}
    assert await monitor.worker(pool) == {}
    assert await monitor.deadline(pool) is None
    assert await read_messages(client, "dispatch") == []


async def test_a_wrong_type_under_a_good_workers_name_leaves_the_good_one_online(
    monitor: Monitor, client: Redis
) -> None:
    pool = await define_pool(client, "etl")
    await monitor.beat("etl", "w1")
    before = await monitor.worker(pool)

    assert await monitor.beat("etl", "w1", worker_type="docker", boot_id="intruder") == "wrong_type"

    assert await monitor.worker(pool) == before
    assert await client.ttl(keys.key(0, "inbox", "etl/w1")) == -1


async def test_a_heartbeat_to_an_unknown_pool_is_refused_and_the_inbox_nobody_owns_expires(
    monitor: Monitor, client: Redis
) -> None:
    assert await monitor.beat("nowhere", "w1") == "unknown_pool"

    (told,) = await read_messages(client, "inbox", "nowhere/w1")
    assert told["code"] == "unknown_pool"
    assert 0 < await client.ttl(keys.key(0, "inbox", "nowhere/w1")) <= 3600
    assert (await read_events(client))[0]["related"] == []
    await define_pool(client, "nowhere")
    assert await monitor.beat("nowhere", "w1") == "changed"
    assert await client.ttl(keys.key(0, "inbox", "nowhere/w1")) == -1


async def test_a_new_life_of_an_online_worker_is_started_and_announced_and_the_old_one_refused(
    monitor: Monitor, client: Redis
) -> None:
    pool = await define_pool(client, "etl")
    await monitor.beat("etl", boot_id="old")
    seen = len(await read_events(client))

    assert await monitor.beat("etl", boot_id="new") == "changed"
    assert await monitor.beat("etl", boot_id="old") == "superseded"
    assert await monitor.beat("etl", boot_id="new") == "renewed"

    assert await event_names(client, seen) == ["prefect.worker.started w1", "penstock.worker.refused w1"]
    announced = [AnnounceWorker.model_validate(message) for message in await read_messages(client, "dispatch")]
    assert [message.boot_id for message in announced] == ["old", "new"]
    assert announced[0].seq < announced[1].seq
    assert (await monitor.worker(pool))["previous_boot_ids"] == " old"
    (told,) = await read_messages(client, "inbox", "etl/w1")
    assert (told["boot_id"], told["code"]) == ("old", "superseded")


async def test_of_three_processes_with_one_name_each_replaces_the_one_before_and_none_returns(
    monitor: Monitor, client: Redis
) -> None:
    pool = await define_pool(client, "etl")

    assert [await monitor.beat("etl", boot_id=boot_id) for boot_id in "ABCABBAC"] == [
        *("changed", "changed", "changed"),
        *("superseded", "superseded", "superseded", "superseded"),
        "renewed",
    ]

    assert [message["boot_id"] for message in await read_messages(client, "dispatch")] == ["A", "B", "C"]
    refused = [event["payload"]["boot_id"] for event in await read_events(client) if event["event"].endswith("refused")]
    assert refused == ["A", "B"]
    assert (await monitor.worker(pool))["boot_id"] == "C"


async def test_a_life_without_a_boot_id_is_superseded_like_any_other(monitor: Monitor, client: Redis) -> None:
    await define_pool(client, "etl")

    decisions = [await monitor.beat("etl", boot_id=boot_id) for boot_id in ("", "1", "", "11", "1", "11", "")]

    assert decisions == ["changed", "changed", "superseded", "changed", "superseded", "renewed", "superseded"]


async def test_a_record_remembers_the_last_sixteen_superseded_lives_and_no_more(
    monitor: Monitor, client: Redis
) -> None:
    pool = await define_pool(client, "etl")
    lives = [f"life-{number}" for number in range(40)]
    for boot_id in lives:
        await monitor.beat("etl", boot_id=boot_id)

    assert (await monitor.worker(pool))["previous_boot_ids"].split() == lives[-17:-1]
    assert [await monitor.beat("etl", boot_id=boot_id) for boot_id in lives[-17:-1]] == ["superseded"] * 16
    assert await monitor.beat("etl", boot_id=lives[-18]) == "changed"


async def test_an_older_entry_changes_nothing_whatever_it_says(monitor: Monitor, client: Redis) -> None:
    pool = await define_pool(client, "etl")
    await monitor.beat("etl", entry_id="1789000000010-5", slots=5)
    before = await monitor.worker(pool), await read_events(client)

    older = [
        await monitor.beat("etl", entry_id="1789000000010-4", slots=9),
        await monitor.beat("etl", entry_id="1789000000009-7", boot_id="earlier"),
        await monitor.beat("etl", entry_id="1789000000010-5", stopping=True),
        await monitor.beat("etl", entry_id="1789000000010-5", slots=5),
        await monitor.beat("etl", entry_id="1789000000010-4", slots=5),
    ]

    assert older == ["stale"] * 5
    assert (await monitor.worker(pool), await read_events(client)) == before
    assert await monitor.beat("etl", entry_id="1789000000010-10", slots=9) == "changed"


async def test_a_last_heartbeat_that_overtakes_the_first_is_silent_and_final(monitor: Monitor, client: Redis) -> None:
    pool = await define_pool(client, "etl")

    assert await monitor.beat("etl", entry_id="1789000000002-0", stopping=True) == "changed"
    assert await monitor.beat("etl", entry_id="1789000000001-0") == "stale"

    assert await read_events(client) == []
    assert (await monitor.worker(pool))["status"] == "OFFLINE"


async def test_a_draining_worker_is_announced_without_slots_and_said_to_drain_once(
    monitor: Monitor, client: Redis
) -> None:
    await define_pool(client, "etl")
    await monitor.beat("etl", slots=4)
    seen = len(await read_events(client))

    await monitor.beat("etl", slots=4, draining=True)
    await monitor.beat("etl", slots=4, draining=True)
    await monitor.beat("etl", slots=4, draining=True, version="2")

    assert await event_names(client, seen) == ["penstock.worker.draining w1"]
    assert [message["slots"] for message in await read_messages(client, "dispatch")] == [4, 0]


@pytest.mark.parametrize("change", [{"slots": 7}, {"queues": ["default"]}, {"prefetch_seconds": 1.5}])
async def test_what_the_dispatcher_must_know_is_announced(
    monitor: Monitor, client: Redis, change: dict[str, Any]
) -> None:
    pool = await define_pool(client, "etl")
    await monitor.beat("etl")

    await monitor.beat("etl", **change)

    first, second = [AnnounceWorker.model_validate(message) for message in await read_messages(client, "dispatch")]
    assert second.seq == first.seq + 1
    expected = first.model_copy(update={"seq": second.seq, **change})
    if "prefetch_seconds" in change:
        expected = first.model_copy(update={"seq": second.seq, "prefetch_ms": 1500})
    assert second == expected
    assert (second.pool_id, second.pool, second.worker) == (pool.id, "etl", "w1")


async def test_a_worker_that_was_lost_and_beats_again_is_online_in_the_same_life(
    monitor: Monitor, client: Redis
) -> None:
    pool = await define_pool(client, "etl")
    await monitor.just_judged()
    await monitor.beat("etl", entry_id=f"{await redis_now_ms(client) - 10_000}-0", interval_seconds=1)
    assert (await monitor.sweep())[1] == 1
    seen = len(await read_events(client))

    assert await monitor.beat("etl", interval_seconds=1) == "changed"

    assert await event_names(client, seen) == [
        "penstock.worker.online w1",
        "prefect.work-pool.ready etl",
        "prefect.work-queue.ready default",
    ]
    announced, lost, again = await read_messages(client, "dispatch")
    assert [announced["type"], lost["type"], again["type"]] == ["announce_worker", "lose_worker", "announce_worker"]
    assert announced["seq"] < lost["seq"] < again["seq"]
    assert announced["boot_id"] == again["boot_id"]
    assert await client.ttl(keys.key(0, "worker", f"{pool.id}/w1")) == -1


async def test_announcements_go_on_counting_after_the_workers_record_expired(monitor: Monitor, client: Redis) -> None:
    pool = await define_pool(client, "etl")
    await monitor.beat("etl", slots=1)
    record = keys.key(0, "worker", f"{pool.id}/w1")
    await client.hset(record, "announced", await redis_now_ms(client) - 86_400_000)  # it was a day ago
    await monitor.beat("etl", slots=2)
    last = (await read_messages(client, "dispatch"))[-1]["seq"]
    await client.delete(record)

    await monitor.beat("etl", slots=4)

    assert (await read_messages(client, "dispatch"))[-1]["seq"] > last


async def test_a_worker_that_names_queues_makes_those_ready_and_no_other(monitor: Monitor, client: Redis) -> None:
    await define_pool(client, "etl", queues={"urgent": {}, "later": {}})

    await monitor.beat("etl", queues=["later"])
    assert "prefect.work-queue.ready later" in await event_names(client)
    assert len(await read_events(client)) == 4

    await monitor.beat("etl", queues=["urgent"])
    assert (await event_names(client))[4:] == ["prefect.work-queue.ready urgent", "prefect.work-queue.not-ready later"]

    await monitor.beat("etl", queues=[])
    assert sorted((await event_names(client))[6:]) == [
        "prefect.work-queue.ready default",
        "prefect.work-queue.ready later",
    ]


async def test_what_is_paused_keeps_silent(monitor: Monitor, client: Redis) -> None:
    await define_pool(client, "etl", paused=True, queues={"urgent": {"paused": True}})

    await monitor.beat("etl")
    await monitor.beat("etl", stopping=True)

    assert [name for name in await event_names(client) if "work-" in name] == [
        "prefect.work-queue.ready default",
        "prefect.work-queue.not-ready default",
    ]


async def test_a_missing_queue_is_asked_for_once(monitor: Monitor, client: Redis) -> None:
    pool = await define_pool(client, "etl", queues={"there": {}})

    await monitor.beat("etl", queues=["there", 'new "one"'])
    await monitor.beat("etl", queues=["there", 'new "one"'])
    await monitor.beat("etl", queues=["there", 'new "one"'], slots=99)

    (command,) = await read_messages(client, "commands")
    assert CreateQueue.model_validate(command) == CreateQueue(pool="etl", queue='new "one"', if_missing=True)
    await define_queue(client, pool, 'new "one"')
    await monitor.beat("etl", queues=["there", 'new "one"'], boot_id="boot-2")
    assert len(await read_messages(client, "commands")) == 1


async def test_a_missing_queue_is_asked_for_again_by_a_new_life_but_not_by_one_that_was_lost_for_a_while(
    monitor: Monitor, client: Redis
) -> None:
    await define_pool(client, "etl")
    await monitor.just_judged()
    await monitor.beat("etl", queues=["new"], entry_id="1789000000000-0")
    await monitor.sweep()
    await monitor.beat("etl", queues=["new"])
    assert len(await read_messages(client, "commands")) == 1

    await monitor.beat("etl", queues=["new"], boot_id="boot-2")
    assert len(await read_messages(client, "commands")) == 2


async def test_a_worker_that_said_it_stops_after_it_was_lost_is_started_again_when_it_returns(
    monitor: Monitor, client: Redis
) -> None:
    await define_pool(client, "etl")
    await monitor.just_judged()
    await monitor.beat("etl", entry_id="1789000000000-0")
    await monitor.sweep()
    seen = len(await read_events(client))

    await monitor.beat("etl", stopping=True)
    await monitor.beat("etl")

    assert (await event_names(client, seen))[:2] == ["prefect.worker.started w1", "penstock.worker.online w1"]


async def test_names_of_any_alphabet_and_with_quotes_arrive_unharmed(monitor: Monitor, client: Redis) -> None:
    name, worker, queue = 'größe "x" \\', "工人 'eins' \\\"", "очередь\\"
    await define_pool(client, name, type='a "b" \\', queues={queue: {}})

    await monitor.beat(name, worker, worker_type='a "b" \\', queues=[queue], boot_id="b'[!", version='"v"')

    events = await read_events(client)
    assert events[0]["resource"]["prefect.resource.name"] == worker
    assert events[0]["related"][0]["prefect.resource.name"] == name
    assert events[-1]["resource"]["prefect.resource.name"] == queue
    (announced,) = await read_messages(client, "dispatch")
    assert (announced["pool"], announced["worker"], announced["queues"]) == (name, worker, [queue])
    assert await monitor.beat(name, worker) == "wrong_type"
    assert len(await read_messages(client, "inbox", f"{name}/{worker}")) == 1


def of_workers(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What workers counted themselves."""
    return [event for event in events if "worker." in event["event"] and not event["event"].endswith(".refused")]


async def test_a_workers_events_are_numbered_by_its_record_and_their_ids_can_be_recomputed_from_it(
    monitor: Monitor, client: Redis
) -> None:
    pool = await define_pool(client, "etl")
    await monitor.beat("etl", "W 1")
    await monitor.beat("etl", "W 1", draining=True)
    await monitor.beat("etl", "W 1", stopping=True)
    await monitor.beat("etl", "W 1")

    record = await monitor.worker(pool, "W 1")
    identity = worker_identity("prefect.worker.process.w-1", pool.id, "W 1", int(record["created_ms"]))
    events = of_workers(await read_events(client))
    assert [event["seq"] for event in events] == [1, 2, 3, 4, 5, 6, 7]
    assert [event["id"] for event in events] == [event_id(identity, seq) for seq in range(1, 8)]
    assert record["event_seq"] == "7"


async def test_a_worker_that_comes_back_after_its_record_expired_counts_anew_and_repeats_no_id(
    monitor: Monitor, client: Redis
) -> None:
    pool = await define_pool(client, "etl")
    await monitor.beat("etl")
    record = keys.key(0, "worker", f"{pool.id}/w1")
    created = int((await monitor.worker(pool))["created_ms"])
    await client.delete(record)
    await wait_until(lambda: later_than(client, created), what="a later moment than the record was made at")

    await monitor.beat("etl")

    events = of_workers(await read_events(client))
    assert [event["seq"] for event in events] == [1, 2, 1, 2]
    assert len({event["id"] for event in events}) == 4


async def later_than(client: Redis, moment_ms: int) -> bool:
    return await redis_now_ms(client) > moment_ms


async def test_workers_of_one_name_in_other_pools_or_partitions_or_of_one_slug_share_no_event_id(
    monitor: Monitor, client: Redis
) -> None:
    await define_pool(client, "etl")
    await define_pool(client, "other")
    await define_pool(client, "far", partition=1)

    for pool, worker, partition in (("etl", "w 1", 0), ("etl", "W-1", 0), ("other", "w 1", 0), ("far", "w 1", 1)):
        await monitor.beat(pool, worker, partition=partition)

    events = of_workers([*await read_events(client), *await read_events(client, 1)])
    assert {event["resource"]["prefect.resource.id"] for event in events} == {"prefect.worker.process.w-1"}
    assert [event["seq"] for event in events] == [1, 2] * 4
    assert len({event["id"] for event in events}) == 8


async def test_a_refusal_is_a_resource_of_its_own_with_one_event(monitor: Monitor, client: Redis) -> None:
    for boot_id in ("one", "two", "one"):
        await monitor.beat("nowhere", "w1", boot_id=boot_id, version="3")

    events = await read_events(client)
    ids = [event["resource"].pop("prefect.resource.id") for event in events]
    hashes = [hashlib.sha1(f"nowhere/w1/unknown_pool/{boot_id}".encode()).hexdigest() for boot_id in ("one", "two")]  # noqa: S324
    assert ids == [f"prefect.worker.process.w1.refusal.{refusal}" for refusal in hashes]
    assert [event["id"] for event in events] == [event_id(resource, 1) for resource in ids]
    assert [event["seq"] for event in events] == [1, 1]
    labels = {"prefect.resource.name": "w1", "prefect.version": "3", "prefect.worker-type": "process"}
    assert [event["resource"] for event in events] == [labels, labels]


async def permanent(client: Redis) -> set[bytes]:
    """Keys that nothing removes by itself."""
    names: Any = await client.keys("*")
    return {name for name in names if await client.ttl(name) < 0}


async def test_names_that_come_and_go_and_refusals_leave_nothing_for_ever(monitor: Monitor, client: Redis) -> None:
    pool = await define_pool(client, "etl")
    await monitor.beat("etl", "first")
    await monitor.beat("etl", "first", stopping=True)
    ledger = keys.key(0, "event_ledger")
    before = await permanent(client), set(await client.hkeys(ledger))

    names = [f"w-{number}" for number in range(600)]
    for stopping in (False, True):
        beats = [heartbeat("etl", name, stopping=stopping) for name in names]
        await monitor.store.apply_heartbeats(0, [delivered(beat, await monitor.next_entry_id()) for beat in beats])
    strangers = [heartbeat(f"nowhere-{name}", name) for name in names]
    strangers += [heartbeat("etl", f"odd-{name}", worker_type="odd") for name in names]
    await monitor.store.apply_heartbeats(0, [delivered(beat, await monitor.next_entry_id()) for beat in strangers])

    assert (await permanent(client), set(await client.hkeys(ledger))) == before
    assert len(of_workers(await read_events(client))) == 4 * 601
    records: Any = await client.keys(keys.key(0, "worker", "*"))
    assert len(records) == 601
    assert {0 < await client.ttl(record) <= 86_400 for record in records} == {True}
    await client.delete(*records)  # a day later
    await monitor.store.forget_workers(0)
    assert await client.exists(keys.key(0, "pool_workers", pool.id), keys.key(0, "liveness")) == 0


QUEUES = ("default", "a", "b")
BOOTS = ("", *(f"b{number}" for number in range(2 * rules.SUPERSEDED_KEPT)))


def random_facts(rng: random.Random) -> rules.Facts:
    return rules.Facts(
        worker_type=rng.choice(["process"] * 9 + ["docker"]),
        boot_id=rng.choice(BOOTS),
        interval_ms=rng.choice([100_000, 200_000]),
        slots=rng.choice([1, 2]),
        queues=rng.choice([(), (), ("a",), ("b", "a"), ("missing",)]),
        prefetch_ms=rng.choice([0, 0, 1500]),
        draining=rng.random() < 0.2,
        stopping=rng.random() < 0.2,
    )


def as_heartbeat(pool: str, worker: str, facts: rules.Facts) -> Any:
    return heartbeat(
        pool,
        worker,
        worker_type=facts.worker_type,
        boot_id=facts.boot_id,
        interval_seconds=facts.interval_ms / 1000,
        slots=facts.slots,
        queues=list(facts.queues),
        prefetch_seconds=facts.prefetch_ms / 1000,
        draining=facts.draining,
        stopping=facts.stopping,
    )


class Model:
    """What the rules say the monitor remembers and says."""

    def __init__(self, pools: dict[str, DefinedPool]) -> None:
        self.pools = pools
        self.known: dict[tuple[str, str], rules.Known] = {}
        self.said: dict[str, list[str]] = defaultdict(list)

    def apply(self, pool: str, worker: str, facts: rules.Facts, entry_id: str) -> rules.Decision:
        known = self.known.get((pool, worker))
        defined = self.pools.get(pool)
        decision = rules.decide(known, defined.type if defined else None, facts, entry_id)
        if decision in ("renewed", "changed"):
            if decision == "changed":
                self.tell(f"{pool}/{worker}", known, facts)
            self.known[pool, worker] = rules.after(known, facts, entry_id)
        return decision

    def tell(self, worker: str, known: rules.Known | None, facts: rules.Facts) -> None:
        said = self.said[worker]
        if facts.stopping:
            if known and known.status == "ONLINE":
                said += ["prefect.worker.stopped", "penstock.worker.offline", "lose_worker"]
            return
        news = rules.news(known, facts)
        said += ["prefect.worker.started"] * news.started + ["penstock.worker.online"] * news.online
        said += ["penstock.worker.draining"] * news.draining + ["announce_worker"] * news.announced

    def online(self, pool: str) -> list[rules.Facts]:
        return [known.facts for (at, _), known in self.known.items() if at == pool and known.status == "ONLINE"]


@pytest.mark.parametrize("seed", range(25))
async def test_the_script_and_the_rules_agree_on_random_heartbeats(monitor: Monitor, client: Redis, seed: int) -> None:
    rng = random.Random(seed)
    pools = {
        name: await define_pool(client, name, paused=paused, queues={"a": {}, "b": {"paused": rng.random() < 0.3}})
        for name, paused in (("p1", False), ("p2", rng.random() < 0.5))
    }
    model = Model(pools)
    now = await redis_now_ms(client)
    for step in range(120):
        batch = []
        for place in range(rng.choice([1, 1, 3])):
            pool, worker = rng.choice(["p1", "p1", "p1", "p2", "nowhere"]), rng.choice(["w1", "w2"])
            known = model.known.get((pool, worker))
            repeat = known and rng.random() < 0.3
            facts = replace(known.facts, stopping=False) if known and repeat else random_facts(rng)
            if known and rng.random() < 0.6:
                facts = replace(facts, boot_id=known.facts.boot_id)
            age = rng.choice([0, 0, 0, 1, 2, 5])
            batch.append((pool, worker, facts, f"{now + step - age}-{place}"))

        expected = [model.apply(*one) for one in batch]
        applied = await monitor.store.apply_heartbeats(
            0, [delivered(as_heartbeat(pool, worker, facts), entry_id) for pool, worker, facts, entry_id in batch]
        )

        assert applied == expected, (step, batch)
    await assert_remembered(monitor, model)
    await assert_said(client, model)
    await assert_ready(client, model)


async def assert_remembered(monitor: Monitor, model: Model) -> None:
    for (pool, worker), known in model.known.items():
        found = await monitor.worker(model.pools[pool], worker)
        assert found["status"] == known.status
        assert found["entry_id"] == known.entry_id
        assert found["boot_id"] == known.facts.boot_id
        assert found.get("previous_boot_ids", "") == "".join(f" {boot_id}" for boot_id in known.previous_boot_ids)
        assert (found["slots"], orjson.loads(found["queues"])) == (str(known.facts.slots), list(known.facts.queues))
        deadline = rules.deadline_ms(rules.entry_order(known.entry_id)[0], known.facts.interval_ms)
        assert await monitor.deadline(model.pools[pool], worker) == (deadline if known.status == "ONLINE" else None)


async def assert_said(client: Redis, model: Model) -> None:
    """The same events and messages about every worker; only their order between the two streams is not known."""
    pool_names = {pool.id: name for name, pool in model.pools.items()}
    said: dict[str, list[str]] = defaultdict(list)
    for event in await read_events(client):
        if "worker" in event["event"] and not event["event"].endswith(".refused"):
            pool_id = event["related"][0]["prefect.resource.id"].removeprefix("prefect.work-pool.")
            said[f"{pool_names[pool_id]}/{event['resource']['prefect.resource.name']}"].append(event["event"])
    sequences: dict[str, list[int]] = defaultdict(list)
    for message in await read_messages(client, "dispatch"):
        worker = f"{message['pool']}/{message['worker']}"
        said[worker].append(message["type"])
        sequences[worker].append(message["seq"])
    for worker, words in model.said.items():
        for about_dispatch in (False, True):
            expected = [word for word in words if word.endswith("_worker") == about_dispatch]
            assert [word for word in said[worker] if word.endswith("_worker") == about_dispatch] == expected
        first = sequences[worker][0] if sequences[worker] else 0
        assert sequences[worker] == list(range(first, first + len(sequences[worker])))


async def assert_ready(client: Redis, model: Model) -> None:
    """The last status event of everything tells its status, and no two in a row say the same."""
    told: dict[str, list[str]] = defaultdict(list)
    for event in await read_events(client):
        if event["event"].endswith("ready"):
            told[event["resource"]["prefect.resource.id"]].append(event["event"].rpartition(".")[2])
    for name, pool in model.pools.items():
        online = model.online(name)
        paused = await client.hget(keys.key(0, "pool", pool.id), "is_paused") == b"true"
        statuses = {f"prefect.work-pool.{pool.id}": rules.pool_status(online, is_paused=paused)}
        for queue, queue_id in pool.queues.items():
            paused = await client.hget(keys.key(0, "queue", queue_id), "is_paused") == b"true"
            statuses[f"prefect.work-queue.{queue_id}"] = rules.queue_status(queue, online, is_paused=paused)
        for resource, status in statuses.items():
            words = told[resource]
            assert words[::2] == ["ready"] * len(words[::2])
            assert words[1::2] == ["not-ready"] * len(words[1::2])
            last = words[-1] if words else "not-ready"
            assert status == "PAUSED" or last == status.lower().replace("_", "-")
            assert status != "PAUSED" or words == []
