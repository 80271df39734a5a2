"""What holds for pools, queues and deployments, without Redis and without a clock; the scripts say the same atomically."""

from __future__ import annotations

import json
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from penstock import templates
from penstock.contracts.base import MAX_LIMIT, RESERVED_PREFIX, is_reserved
from penstock.contracts.runs import check_work
from penstock.errors import Conflict, Invalid, Reserved

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from pydantic import BaseModel

    from penstock.contracts.base import Changes
    from penstock.contracts.deployments import ScheduleSpec
    from penstock.contracts.pools import PoolStatus

CHANGEABLE_IF_RESERVED: Final = frozenset({"concurrency_limit"})
"""Of a reserved pool only this may be updated (pausing is a command of its own), as in Prefect."""
KEEPS_FUTURE_RUNS: Final = frozenset(
    {"description", "version", "concurrency_limit", "collision_strategy", "parameter_schema"}
)
"""Fields of a deployment that say nothing about the runs its schedules have made already."""


class Place(NamedTuple):
    """Where a command stands.

    Attributes:
        partition: of its stream.
        entry: id of the stream entry it came in; without one its order does not count.
        again: it was handed out before. A newer command about the same pool or deployment may have been carried out meanwhile; then
            it is refused as overtaken.
    """

    partition: int
    entry: str = ""
    again: bool = False


class Placement(NamedTuple):
    """Where a queue goes among the priorities of its pool.

    Attributes:
        priority: the number it gets.
        shifted: queue -> new number, for each other queue that must move.
    """

    priority: int
    shifted: dict[str, int]


def place_priority(taken: Mapping[str, int], wanted: int | None, mover: str = "") -> Placement:
    """Find a queue's priority; only the unbroken run of taken numbers that begins there shifts, by one. Gaps stay.

    Args:
        taken: queue -> its number, unique, 1 or more.
        wanted: the number asked for; None takes the first free one.
        mover: the queue itself when it exists already; the number it leaves is free.

    Raises:
        Conflict: the last of the shifted queues would pass the largest number a queue can have.
    """
    holders = {number: queue for queue, number in taken.items() if queue != mover}
    if wanted is None:
        wanted = next(number for number in range(1, len(holders) + 2) if number not in holders)
    shifted: dict[str, int] = {}
    number = wanted
    while number in holders:
        shifted[holders[number]] = number + 1
        number += 1
    if number > MAX_LIMIT:
        raise Conflict(f"no room at priority {wanted}", "choose a smaller number")
    return Placement(wanted, shifted)


def is_overtaken(entry: str, newest: str) -> bool:
    """Say whether a command must not be carried out any more: what it asks for was decided anew by a later one.

    Args:
        entry: id of the stream entry it came in, ``<ms>-<number>``.
        newest: that of the newest command about the same pool or deployment that was carried out.
    """
    first, second = ([int(part) for part in one.split("-")] for one in (entry, newest))
    return first < second


def given(changes: Changes) -> list[str]:
    """Name the fields to set, in the order of the contract: the order in which the event lists them."""
    return [name for name in type(changes).model_fields if name in changes.model_fields_set]


def pool_status(*, is_paused: bool, online: int) -> PoolStatus:
    """Derive a pool's status; it is stored nowhere.

    Args:
        is_paused: as defined.
        online: how many of its workers are ONLINE.
    """
    if is_paused:
        return "PAUSED"
    return "READY" if online > 0 else "NOT_READY"


def queue_status(*, is_paused: bool, online_any: int, online_named: int) -> PoolStatus:
    """Derive a queue's status; its pool's pause does not show in it.

    Args:
        is_paused: as defined.
        online_any: how many ONLINE workers serve every queue of the pool.
        online_named: how many ONLINE workers name this queue.
    """
    return pool_status(is_paused=is_paused, online=online_any + online_named)


def refuse_reserved(pool: str, changed: Iterable[str] | None = None) -> None:
    """Keep the system's pools from being created, deleted or redefined.

    Args:
        pool: the pool's name.
        changed: the fields an update sets; None means creating or deleting.

    Raises:
        Reserved: the name is the system's.
    """
    if not is_reserved(pool) or (changed is not None and CHANGEABLE_IF_RESERVED.issuperset(changed)):
        return
    if changed is None:
        raise Reserved(
            f"the pool name '{pool}' is reserved for the system", f"no name may begin with '{RESERVED_PREFIX}'"
        )
    allowed = ", ".join(sorted(CHANGEABLE_IF_RESERVED))
    raise Reserved(f"the pool '{pool}' belongs to the system", f"only this can be changed: {allowed}")


def check_template(template: Mapping[str, Any]) -> None:
    """Refuse a base job template that workers could not use.

    Raises:
        Invalid: names the path, the reason and the rule of each problem.
    """
    templates.ensure(template)


def starting_template(worker_type: str, given: dict[str, Any]) -> dict[str, Any]:
    """Say which template a command that creates a pool means.

    Args:
        worker_type: of the pool.
        given: in the command; one that is absent or ``{}`` means the default. Only an update makes a pool's template ``{}``.

    Returns:
        The given one, or the default of a type Penstock knows, or ``{}`` for a type it does not.
    """
    if given or worker_type not in templates.WORKER_TYPES:
        return given
    return templates.default_template(worker_type)


def json_text(value: Any) -> str:
    """Spell a value so that equal values have equal texts: sorted keys, no spaces, UTF-8 as it is.

    Raises:
        ValueError: a number is infinite or none at all.
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))


def texts(source: BaseModel, names: Iterable[str]) -> list[str]:
    """Spell fields as a script takes them: name and JSON text in turn."""
    return [part for name in names for part in (name, _field_text(name, getattr(source, name)))]


def _field_text(name: str, value: Any) -> str:
    # 0 and 0.0 are the same delay, and a default may be either.
    return json_text(float(value) if name == "retry_delay_seconds" else value)


def revises(changed: Iterable[str]) -> bool:
    """Say whether a deployment gets a new revision: then the future runs of its schedules are made anew.

    Args:
        changed: its fields that differ, ``schedules`` among them if one of these does.
    """
    return not KEEPS_FUTURE_RUNS.issuperset(changed)


def has_one_thing_to_run(*, entrypoint: object, command: object) -> bool:
    """Say whether exactly one of the two is there."""
    return (entrypoint is None) != (command is None)


def completed_work(given: Mapping[str, Any]) -> dict[str, None]:
    """Say what an update of a deployment unsets besides: giving one thing to run takes the place of the other.

    Args:
        given: the fields it sets.

    Raises:
        Invalid: two things to run are given, or null for both, or an entrypoint is none.
    """
    both = {"entrypoint", "command"}
    work = {name: given[name] for name in both & given.keys()}
    if not work or (len(work) == 1 and None in work.values()):
        return {}
    try:
        check_work(work.get("entrypoint"), work.get("command"))
    except ValueError as fault:
        raise Invalid(str(fault), "give the one that is to be executed") from fault
    return dict.fromkeys(both - work.keys())


class ScheduleRow(NamedTuple):
    """A schedule as scripts take it.

    Attributes:
        id: if it is a new one. Ids grow with time: sorted, they are in the order of creation.
        anchor: that was given, a JSON text; '' when none was.
        otherwise: the anchor it gets if none was given, a JSON text.
        rest: JSON of all other fields, without the opening brace; ``active`` comes first.
    """

    id: str
    anchor: str
    otherwise: str
    rest: str


class KeptSchedule(NamedTuple):
    """A schedule as its text says it, in the order of the text; see :class:`ScheduleRow`."""

    id: str
    anchor: str
    rest: str


def schedule_row(schedule: ScheduleSpec, ident: str, now: datetime) -> ScheduleRow:
    """Spell a schedule so that equal ones have equal texts.

    Args:
        schedule: one that has been checked.
        ident: the id it gets if it is new.
        now: of the registry; see :func:`starting_anchor`.
    """
    given = anchor_text(schedule.anchor)
    otherwise = anchor_text(starting_anchor(schedule, now)) or "null"
    fields = schedule.model_dump(mode="json", exclude={"id", "anchor"})
    return ScheduleRow(ident, given, otherwise, json_text(fields)[1:])


def starting_anchor(schedule: ScheduleSpec, now: datetime) -> datetime | None:
    """Say what a schedule is counted from if nothing else was said.

    Args:
        schedule: one that has been checked.
        now: when it is made.

    Returns:
        For an interval this second. For a rule without DTSTART midnight of its zone, so that what the rule does not say (the
        second, the minute, the hour) is 0 and not the moment of its making; one with COUNT begins to count with this minute.
        None for what needs none.
    """
    if schedule.interval_seconds is not None:
        return now.replace(microsecond=0)
    rule = (schedule.rrule or "DTSTART").upper()
    if "DTSTART" in rule:
        return None
    if "COUNT" in rule:
        return now.replace(second=0, microsecond=0)
    local = now.astimezone(ZoneInfo(schedule.timezone))
    return local.replace(hour=0, minute=0, second=0, microsecond=0)


def anchor_text(anchor: datetime | None) -> str:
    """Spell an anchor in UTC, as JSON; '' when there is none. Every moment the contract takes has a date there."""
    return "" if anchor is None else json_text(anchor.astimezone(UTC).isoformat().replace("+00:00", "Z"))


def new_schedule(row: ScheduleRow) -> KeptSchedule:
    """Say what a row becomes."""
    return KeptSchedule(row.id, row.anchor or row.otherwise, row.rest)


def merged_schedules(kept: Iterable[KeptSchedule], rows: Iterable[ScheduleRow]) -> list[KeptSchedule]:
    """Say what becomes of a deployment's schedules when others are given: one that is there already stays as it is, id included.

    Args:
        kept: those there are.
        rows: those there are to be.
    """
    left, merged = list(kept), []
    for row in rows:
        same = next((one for one in left if one.rest == row.rest and row.anchor in ("", one.anchor)), None)
        if same:
            left.remove(same)
        merged.append(same or new_schedule(row))
    return sorted(merged)


def replaced_schedule(one: KeptSchedule, row: ScheduleRow) -> KeptSchedule:
    """Say what becomes of a schedule that is replaced: an interval goes on counting from where it did, if nothing else is said."""
    goes_on = not row.anchor and "null" not in (row.otherwise, one.anchor)
    return KeptSchedule(one.id, one.anchor if goes_on else row.anchor or row.otherwise, row.rest)
