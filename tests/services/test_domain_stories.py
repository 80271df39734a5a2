"""Stories that once ended differently for services and model, each told on purpose; see ``test_domain_model.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.services.domain_chances import LATE_MS, SOON_MS
from tests.services.domain_model import DISPATCH
from tests.services.test_domain_model import Story

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
SCHEDULE = "0b9c8d7e-1111-4222-8333-944455566677"


@pytest.fixture
def roomy(story: Story) -> Story:
    """The worker has four slots, and there is a deployment that may run one at a time."""
    story.heartbeat(beat={**BEAT, "slots": 4}, soon=True)
    story.create_deployment("hello/demo", concurrency_limit=1)
    return story


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


def submit(story: Story, *times: int | None, queue: str = "default", **about: object) -> list[str]:
    """Submit runs of the deployment there is; answers their ids."""
    story._submit("etl", [(queue, later) for later in times], soon=True, **{"deployment": "deployment-1", **about})
    return story._known[-len(times) :]


def by(revision: int = 1, catch_up: str = "all") -> Wire:
    """What a scheduler says of the runs it makes."""
    return {"by": (SCHEDULE, revision, catch_up), "key": "k1"}


def change(story: Story, kind: str = "update_deployment", *, soon: bool = True, **about: object) -> None:
    story._send("commands", {"type": kind, "deployment": "hello/demo", **about}, soon=soon)


def states(story: Story, runs: list[str]) -> list[str]:
    """States by their names; of a run without a record, nothing."""
    known = [story.world.runs.get(run) for run in runs]
    return ["" if run is None else "parked" if run.parked else run.label or run.state for run in known]


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
    story.heartbeat(beat={**BEAT, "boot_id": "b2"}, soon=False)

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


def test_the_place_of_a_run_that_ends_goes_to_one_that_was_parked(roomy: Story) -> None:
    first, second, third = submit(roomy, None, None, None)
    assert states(roomy, [first, second, third]) == ["PENDING", "parked", "parked"]

    report(roomy, first, "COMPLETED")

    assert states(roomy, [first, second, third]) == ["COMPLETED", "PENDING", "parked"]


def test_a_place_that_is_freed_in_one_pool_is_taken_in_another(roomy: Story) -> None:
    roomy._send("commands", {**POOL, "pool": "ml"}, soon=True)
    roomy.heartbeat(beat={**BEAT, "pool": "ml"}, soon=True)
    (first,) = submit(roomy, None)
    roomy._submit("ml", [("default", None)], soon=True, deployment="deployment-1")
    second = roomy._known[-1]
    assert states(roomy, [first, second]) == ["PENDING", "parked"]

    report(roomy, first, "COMPLETED")

    assert states(roomy, [second]) == ["PENDING"]


@pytest.mark.parametrize(("delay", "waits"), [(0, "parked"), (600, "AwaitingRetry")])
def test_a_run_that_awaits_its_retry_holds_no_place(roomy: Story, delay: int, waits: str) -> None:
    (first,) = submit(roomy, None, retries=1, delay=delay)
    (second,) = submit(roomy, None)

    report(roomy, first, "FAILED")

    assert states(roomy, [first, second]) == [waits, "PENDING"]


def test_a_crash_of_a_worker_is_retried_by_another(roomy: Story) -> None:
    (run,) = submit(roomy, None, retries=1)
    report(roomy, run, "RUNNING")
    roomy.heartbeat(beat={**BEAT, "worker": "w2"}, soon=True)

    roomy.heartbeat(beat={**BEAT, "slots": 4, "stopping": True}, soon=True)

    assert (states(roomy, [run]), roomy.world.runs[run].worker) == (["PENDING"], "w2")


@pytest.mark.parametrize("force", [False, True])
def test_a_parked_run_that_is_cancelled_is_gone(roomy: Story, force: bool) -> None:
    first, second = submit(roomy, None, None)

    roomy._cancel([second], force=force, soon=True)
    report(roomy, first, "COMPLETED")

    assert states(roomy, [first, second]) == ["COMPLETED", "CANCELLED"]


def test_a_cancelled_run_keeps_its_place_until_its_worker_has_stopped_it(roomy: Story) -> None:
    first, second = submit(roomy, None, None)

    roomy._cancel([first], force=False, soon=True)
    roomy._cancel([first], force=False, soon=True)

    assert states(roomy, [first, second]) == ["CANCELLING", "parked"]
    assert roomy.world.inboxes["etl/w1"][-2:] == [("stop", (first, 1))] * 2
    report(roomy, first, "CANCELLED")
    assert states(roomy, [first, second]) == ["CANCELLED", "PENDING"]


@pytest.mark.parametrize("said", ["COMPLETED", "FAILED", "CRASHED", "SCHEDULED", "RUNNING"])
def test_what_a_worker_says_of_a_run_it_is_to_stop(roomy: Story, said: str) -> None:
    (run,) = submit(roomy, None, retries=2)
    roomy._cancel([run], force=False, soon=True)

    report(roomy, run, said)

    assert states(roomy, [run]) == [{"COMPLETED": "COMPLETED", "RUNNING": "CANCELLING"}.get(said, "CANCELLED")]


@pytest.mark.parametrize("forced", [True, False])
def test_a_run_its_worker_does_not_stop_is_taken_away(roomy: Story, forced: bool) -> None:
    first, second = submit(roomy, None, None)
    roomy._cancel([first], force=False, soon=True)

    if forced:
        roomy._cancel([first], force=True, soon=True)
    else:
        roomy.no_worker_ends_in_time_what_was_cancelled()

    assert states(roomy, [first, second]) == ["CANCELLED", "PENDING"]
    assert ("revoked", (first, 1)) in roomy.world.inboxes["etl/w1"]


def test_a_lost_worker_cancels_what_it_was_to_stop(roomy: Story) -> None:
    (run,) = submit(roomy, None, retries=1)
    roomy._cancel([run], force=False, soon=True)

    roomy.heartbeat(beat={**BEAT, "slots": 4, "stopping": True}, soon=True)

    assert states(roomy, [run]) == ["CANCELLED"]


def test_a_new_revision_voids_what_schedules_made_for_later_and_they_may_make_it_again(roomy: Story) -> None:
    (run,) = submit(roomy, SOON_MS, **by())

    change(roomy, changes={"tags": ["nightly"]})
    (same_as_before,) = submit(roomy, SOON_MS, **by())
    (anew,) = submit(roomy, SOON_MS, **by(2))

    assert states(roomy, [run, same_as_before, anew]) == ["", "", "SCHEDULED"]


def test_a_change_that_keeps_the_revision_keeps_the_runs(roomy: Story) -> None:
    (run,) = submit(roomy, SOON_MS, **by())

    change(roomy, changes={"concurrency_limit": 2})

    assert states(roomy, [run]) == ["SCHEDULED"]


def test_a_run_that_was_made_under_an_old_revision_is_not_even_handed_out_early(roomy: Story) -> None:
    (run,) = submit(roomy, SOON_MS, **by())
    roomy.heartbeat(beat={**BEAT, "slots": 4, "prefetch_seconds": 3600}, soon=False)

    change(roomy, changes={"tags": ["nightly"]})

    assert states(roomy, [run]) == [""]


def test_a_run_that_has_been_begun_is_not_voided_while_it_awaits_its_retry(roomy: Story) -> None:
    (run,) = submit(roomy, -1, retries=1, delay=600, **by())
    report(roomy, run, "FAILED")

    change(roomy, changes={"tags": ["nightly"]})

    assert states(roomy, [run]) == ["AwaitingRetry"]


def test_only_the_latest_run_of_a_schedule_is_caught_up(roomy: Story) -> None:
    change(roomy, changes={"concurrency_limit": 0})
    told = [submit(roomy, later, by=(SCHEDULE, 1, "latest"))[0] for later in (-3, -2, -1)]

    change(roomy, changes={"concurrency_limit": None})

    assert states(roomy, told) == ["CANCELLED", "CANCELLED", "PENDING"]


@pytest.mark.parametrize("limit", [1, 0])
def test_what_waits_for_the_limit_of_a_deployment_that_moves_away_goes_on(roomy: Story, limit: int) -> None:
    change(roomy, changes={"concurrency_limit": limit})
    first, second = submit(roomy, None, None)

    change(roomy, "delete_deployment", moved_to="far")

    assert (limit, *states(roomy, [first, second])) == (limit, "PENDING", "PENDING")


def test_what_is_parked_in_one_queue_is_left_alone_when_another_takes_the_room(roomy: Story) -> None:
    change(roomy, changes={"concurrency_limit": 0})
    (first,) = submit(roomy, None)
    (second,) = submit(roomy, None, queue="a")

    # The claim of this submission comes before the dispatcher hears of the change.
    roomy.submit(pool="etl", queue="a", count=1, soon=False)
    change(roomy, changes={"concurrency_limit": 1, "collision_strategy": "cancel_new"})

    assert states(roomy, [first, second]) == ["PENDING", "parked"]


def test_what_is_parked_in_a_queue_that_was_deleted_is_cancelled_even_after_its_deployment(roomy: Story) -> None:
    first, second = submit(roomy, None, None, queue="a")
    roomy.model.one_by_one = roomy.services.one_by_one = True

    change(roomy, "delete_deployment", moved_to=None, soon=False)
    roomy._send("commands", command("delete_queue", queue="a"), soon=True)

    assert states(roomy, [first, second]) == ["PENDING", "CANCELLED"]


def test_a_deleted_deployment_takes_along_what_waits_and_leaves_what_is_in_flight(roomy: Story) -> None:
    first, second = submit(roomy, None, None)
    (later,) = submit(roomy, LATE_MS)

    change(roomy, "delete_deployment", moved_to=None)

    assert states(roomy, [first, second, later]) == ["PENDING", "CANCELLED", "CANCELLED"]


@pytest.mark.parametrize("gone", ["queue", "pool"])
def test_a_key_is_free_again_when_its_queue_takes_a_run_of_a_schedule_along(roomy: Story, gone: str) -> None:
    (run,) = submit(roomy, SOON_MS, queue="a", **by())
    roomy._send("commands", command(f"delete_{gone}", **({"queue": "a"} if gone == "queue" else {})), soon=True)

    assert states(roomy, [run]) == ["CANCELLED"]
    assert roomy.world.idempotency == {}


def test_a_key_names_the_run_that_came_first(roomy: Story) -> None:
    first, second = submit(roomy, None, None, key="k1")
    (third,) = submit(roomy, None, key="k1")
    (other,) = submit(roomy, None, key="k1", deployment=None)

    assert states(roomy, [first, second, third, other]) == ["PENDING", "", "", "PENDING"]


def test_only_what_is_finished_is_deleted_and_only_what_is_not_is_cancelled(roomy: Story) -> None:
    first, second = submit(roomy, None, None)
    report(roomy, first, "COMPLETED")

    roomy._cancel([first, second], force=True, soon=True)
    roomy._send("dispatch", {"type": "delete_runs", "id": "delete", "runs": [first, second]}, soon=True)

    assert states(roomy, [first, second]) == ["", ""]


def test_a_worker_is_not_announced_anew_because_a_queue_it_named_is_gone(story: Story) -> None:
    story.heartbeat(beat={**BEAT, "queues": ["a"]}, soon=True)
    sent = len(story.world.streams["dispatch"])

    story._send("commands", command("delete_queue", queue="a"), soon=False)
    story._send("commands", command("pause_queue", queue="default"), soon=True)

    assert len(story.world.streams["dispatch"]) == sent
