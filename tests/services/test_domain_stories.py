"""Stories that once ended differently for services and model, each told on purpose; see ``test_domain_model.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.services.domain_model import DISPATCH
from tests.services.test_domain_model import SOON_MS, Story

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.services.domain_world import Wire

POOL: Wire = {
    "type": "create_pool",
    "pool": "etl",
    "worker_type": "process",
    "is_paused": False,
    "concurrency_limit": None,
    "on_worker_lost": "crash",
    "max_attempts": 3,
    "if_missing": False,
    "overwrite": False,
}
BEAT: Wire = {
    "pool": "etl",
    "worker": "w1",
    "worker_type": "process",
    "boot_id": "b1",
    "interval_seconds": 600,
    "queues": [],
    "slots": 1,
    "prefetch_seconds": 0,
    "draining": False,
    "stopping": False,
}


@pytest.fixture
def story(redis_url: str) -> Iterator[Story]:
    """A pool with a worker that has one slot, and a queue ``a``; in the end everything is compared and deleted."""
    told = type("Story", (Story,), {"redis_url": redis_url})()
    told._send("commands", POOL, soon=True)
    told._send("commands", command("create_queue", queue="a", if_missing=False), soon=True)
    told.heartbeat(beat=BEAT, soon=True)
    yield told
    told.teardown()


def command(kind: str, **about: object) -> Wire:
    return {"type": kind, "pool": "etl", **about}


def run_from(story: Story, queue: str) -> str:
    """Submit one run, which is handed out at once."""
    story.submit(pool="etl", queue=queue, count=1, soon=True)
    return [run.id for run in story.world.in_flight()][-1]


def report(story: Story, run: str, state: str, *, soon: bool = True) -> None:
    story._report("etl", "w1", [(run, 1, f"{run}.1")], state, 1, soon=soon)


def replace_pool(story: Story, *, soon: bool) -> None:
    story._send("commands", command("delete_pool"), soon=False)
    story._send("commands", POOL, soon=soon)


def test_a_run_that_comes_back_to_a_deleted_queue_is_cancelled(story: Story) -> None:
    run = run_from(story, "a")
    story._send("commands", command("delete_queue", queue="a"), soon=True)

    report(story, run, "SCHEDULED")

    assert story.world.runs[run].state == "CANCELLED"


def test_a_lost_workers_run_from_a_deleted_queue_is_cancelled(story: Story) -> None:
    run = run_from(story, "a")
    story._send("commands", command("delete_queue", queue="a"), soon=True)

    story.heartbeat(beat={**BEAT, "stopping": True}, soon=True)

    assert story.world.runs[run].state == "CANCELLED"


def test_a_submission_delivered_again_does_not_bring_a_deleted_queue_back(story: Story) -> None:
    run_from(story, "a")
    story._send("commands", command("delete_queue", queue="a"), soon=True)

    story.deliver_again(reader=DISPATCH, which=0)

    assert story.world.pools["etl"].queue("a") is None


def test_what_is_due_later_in_a_pool_survives_the_end_of_the_last_pool_of_its_name(story: Story) -> None:
    replace_pool(story, soon=False)

    story._submit("etl", [("default", SOON_MS)], soon=True)

    assert story.world.due == {"etl"}


def test_a_loss_in_the_last_pool_of_the_name_takes_nothing_from_a_workers_inbox(story: Story) -> None:
    story.heartbeat(beat={**BEAT, "stopping": True}, soon=True)
    story.heartbeat(beat=BEAT, soon=True)
    replace_pool(story, soon=True)
    story.heartbeat(beat={**BEAT, "boot_id": "b2"}, soon=True)
    run = run_from(story, "default")
    sent = [message["type"] for message in story.world.streams["dispatch"]]

    story.deliver_again(reader=DISPATCH, which=len(sent) - 1 - sent.index("lose_worker"))

    assert ("assigned", run, 1, "b2") in story.world.inboxes["etl/w1"]


def test_a_lost_worker_that_reports_is_told_to_stop_but_its_inbox_expires(story: Story) -> None:
    run = run_from(story, "default")
    story.heartbeat(beat={**BEAT, "stopping": True}, soon=True)

    report(story, run, "RUNNING")

    assert story.world.inboxes["etl/w1"] == [("revoked", (run, 1))]


def test_the_inbox_of_a_lost_worker_whose_run_was_kept_expires_with_the_pool(story: Story) -> None:
    story._send("commands", command("update_pool", changes={"on_worker_lost": "keep"}), soon=True)
    run = run_from(story, "default")
    report(story, run, "RUNNING")
    story.heartbeat(beat={**BEAT, "stopping": True}, soon=True)

    story._send("commands", command("delete_pool"), soon=True)

    assert story.world.inboxes["etl/w1"] == [("revoked", (run, 1))]


@pytest.mark.parametrize("refused", [{"worker_type": "docker"}, {"boot_id": "b1"}], ids=["wrong type", "superseded"])
def test_a_refusal_to_a_worker_that_has_left_expires(story: Story, refused: Wire) -> None:
    story.heartbeat(beat={**BEAT, "boot_id": "b2"}, soon=True)
    story.heartbeat(beat={**BEAT, "boot_id": "b2", "stopping": True}, soon=True)

    story.heartbeat(beat={**BEAT, "boot_id": "b2", **refused}, soon=True)

    assert [said[0] for said in story.world.inboxes["etl/w1"]] == ["refused"]


@pytest.mark.parametrize("beat", [BEAT, {**BEAT, "slots": 2}], ids=["the same", "something new"])
def test_no_heartbeat_from_before_takes_back_what_an_outage_extended(story: Story, beat: Wire) -> None:
    story.sweep(outage=True)
    story.heartbeat(beat=beat, soon=True)

    story.sweep(outage=False)

    assert story.world.online(story.world.pools["etl"])


@pytest.mark.parametrize("named", [[], ["a"]], ids=["any queue", "one queue"])
def test_no_offer_of_a_worker_outlives_its_pool(story: Story, named: list[str]) -> None:
    story.heartbeat(beat={**BEAT, "queues": named}, soon=True)
    run_from(story, "a")

    story._send("commands", command("delete_pool"), soon=True)

    assert story.world.slots == {}


def test_only_neighbours_make_room_up_to_a_gap_or_the_place_the_mover_leaves(story: Story) -> None:
    for queue, priority in (("b", 3), ("c", 7)):
        story._send("commands", command("create_queue", queue=queue, priority=priority, if_missing=False), soon=True)

    story._send("commands", command("update_queue", queue="b", changes={"priority": 1}), soon=True)
    story._send("commands", command("create_queue", queue="d", priority=2, if_missing=False), soon=True)

    named = {queue.name: queue.priority for queue in story.world.pools["etl"].queues}
    assert named == {"b": 1, "d": 2, "default": 3, "a": 4, "c": 7}
