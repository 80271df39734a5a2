from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock import keys
from penstock.contracts.pools import Pool, ReadPool, ResumePool
from penstock.errors import Invalid, Reserved
from penstock.templates import default_template
from services.pool_registry import rules
from tests.registering import Registry

if TYPE_CHECKING:
    from redis.asyncio import Redis

NUMBERS = st.integers(1, 6)
"""Few numbers, so that runs without a gap are common."""


@pytest.mark.parametrize(
    ("taken", "wanted", "priority", "shifted"),
    [
        ({}, None, 1, {}),
        ({"a": 1, "b": 2, "d": 4}, None, 3, {}),
        ({"b": 2}, None, 1, {}),
        ({"a": 1}, 7, 7, {}),
        ({"a": 1, "b": 2, "d": 4}, 1, 1, {"a": 2, "b": 3}),
        ({"a": 1, "b": 2, "d": 4}, 2, 2, {"b": 3}),
    ],
)
def test_a_queue_takes_its_number_and_only_the_unbroken_run_above_shifts(
    taken: dict[str, int], wanted: int | None, priority: int, shifted: dict[str, int]
) -> None:
    assert rules.place_priority(taken, wanted) == (priority, shifted)


@given(st.dictionaries(st.sampled_from("abcdefgh"), NUMBERS).filter(lambda t: len(set(t.values())) == len(t)), NUMBERS)
def test_no_smaller_set_of_queues_could_have_shifted(taken: dict[str, int], wanted: int) -> None:
    priority, shifted = rules.place_priority(taken, wanted)
    after = {**taken, **shifted}

    assert priority == wanted
    assert len({*after.values(), priority}) == len(after) + 1
    assert sorted(after, key=lambda queue: after[queue]) == sorted(taken, key=lambda queue: taken[queue])
    # Each one had to move: its own number went to the new queue or to the one below it.
    assert sorted(taken[queue] for queue in shifted) == list(range(wanted, wanted + len(shifted)))


@given(
    st.lists(NUMBERS, unique=True, max_size=5),
    st.none() | NUMBERS,
    st.none() | st.integers(0, 4),
)
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_the_scripts_place_queues_as_the_rule_says(
    client: Redis, numbers: list[int], wanted: int | None, mover_index: int | None
) -> None:
    await client.flushall()
    registry = Registry(client)
    await registry.pool()
    # Far away and back again, so that the random numbers alone are taken.
    await registry.change_queue("default", priority=1000)
    taken = {f"q{number}": number for number in numbers}
    for name, number in taken.items():
        await registry.queue(name, priority=number)
    mover = f"q{numbers[mover_index]}" if mover_index is not None and mover_index < len(numbers) else ""
    await registry.forget()

    if mover and wanted is not None:
        await registry.change_queue(mover, priority=wanted)
    else:
        mover = "new"
        await registry.queue("new", priority=wanted)
    priority, shifted = rules.place_priority({**taken, "default": 1000}, wanted, mover)

    after = {queue["name"]: queue["priority"] for queue in (await registry.pool(if_missing=True))["queues"]}
    assert after == {**taken, "default": 1000, **shifted, mover: priority}
    updated = {
        event["resource"]["prefect.resource.name"]: event["payload"]["updates"]["priority"]
        for event in await registry.events()
        if event["event"] == "prefect.work-queue.updated"
    }
    moved = {mover: priority} if taken.get(mover, priority) != priority else {}
    assert updated == {name: {"from": taken[name], "to": to} for name, to in {**shifted, **moved}.items()}


@given(st.booleans(), st.booleans(), st.sets(st.sampled_from(["a", "b"])), st.sets(st.sampled_from(["c", "d"])))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_the_scripts_and_read_pool_derive_status_as_the_rules_say(
    client: Redis, pool_paused: bool, queue_paused: bool, any_workers: set[str], named_workers: set[str]
) -> None:
    await client.flushall()
    registry = Registry(client)
    pool = await registry.pool(is_paused=pool_paused)
    queue = await registry.queue("fast", is_paused=queue_paused)
    for worker in any_workers:
        await registry.come_online(pool["id"], worker)
    for worker in named_workers:
        await registry.come_online(pool["id"], worker, queue["id"])
    online = len(any_workers | named_workers)

    answered = Pool.model_validate(await registry.pool(if_missing=True))

    assert answered.status == rules.pool_status(is_paused=pool_paused, online=online)
    assert [found.status for found in answered.queues] == [
        rules.queue_status(is_paused=False, online_any=len(any_workers), online_named=0),
        rules.queue_status(is_paused=queue_paused, online_any=len(any_workers), online_named=len(named_workers)),
    ]
    assert await registry.result(ReadPool(pool="etl")) == answered.model_dump()
    if pool_paused:
        assert (await registry.result(ResumePool(pool="etl")))["status"] == rules.pool_status(
            is_paused=False, online=online
        )


async def test_a_queue_without_its_pool_or_the_other_way_round_reads_as_missing(client: Redis) -> None:
    registry = Registry(client)
    pool = await registry.pool()
    fast = await registry.queue("fast")
    await client.delete(keys.key(0, "queue", fast["id"]))

    assert [queue["name"] for queue in (await registry.result(ReadPool(pool="etl")))["queues"]] == ["default"]
    assert pool["queues"][0]["name"] == "default"


@pytest.mark.parametrize("name", ["prefect", "Prefect-managed", "PREFECTURE"])
def test_a_reserved_name_may_only_have_its_limit_changed(name: str) -> None:
    with pytest.raises(Reserved):
        rules.refuse_reserved(name)
    with pytest.raises(Reserved, match="belongs to the system"):
        rules.refuse_reserved(name, {"concurrency_limit", "description"})
    rules.refuse_reserved(name, {"concurrency_limit"})


def test_other_names_are_not_reserved() -> None:
    rules.refuse_reserved("perfect")
    rules.refuse_reserved("my-prefect", {"description"})


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ({"job_configuration": {}}, r"\$\.variables: .*\(required\)"),
        ({"variables": {}}, r"\$\.job_configuration: .*\(required\)"),
        ({"other": 1}, r"\$\.other: .*\(section\)"),
        ({"job_configuration": [], "variables": {}}, r"\$\.job_configuration: .*\(type\)"),
        ({"job_configuration": {"a": float("nan")}, "variables": {}}, r"\$\.job_configuration\.a: .*\(number\)"),
        ({"job_configuration": {"a": float("inf")}, "variables": {}}, r"\$\.job_configuration\.a: .*\(number\)"),
        ({"job_configuration": {"a": "{{ b }}"}, "variables": {}}, r"\$\.job_configuration\.a: .*\(undeclared\)"),
    ],
)
def test_a_wrong_template_is_refused_with_path_and_rule(template: dict[str, Any], said: str) -> None:
    with pytest.raises(Invalid, match=said):
        rules.check_template(template)


@pytest.mark.parametrize("template", [{}, {"job_configuration": {}, "variables": {}}])
def test_an_empty_template_and_one_with_both_parts_pass(template: dict[str, Any]) -> None:
    rules.check_template(template)


def test_a_pool_begins_with_the_given_template_or_the_default_of_its_type_or_none() -> None:
    given: dict[str, Any] = {"job_configuration": {}, "variables": {}}
    assert rules.starting_template("process", given) is given
    assert rules.starting_template("process", {}) == default_template("process")
    assert rules.starting_template("teleport", {}) == {}


def test_equal_values_have_equal_texts() -> None:
    assert rules.json_text({"b": [1, None], "a": "ö"}) == rules.json_text({"a": "ö", "b": [1, None]})
    assert rules.json_text({"b": [1, None], "a": "ö"}) == '{"a":"ö","b":[1,null]}'
