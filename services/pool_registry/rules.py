"""What holds for pools and queues, without Redis and without a clock; the scripts say the same atomically."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from penstock import templates
from penstock.contracts.base import MAX_LIMIT, RESERVED_PREFIX, is_reserved
from penstock.errors import Conflict, Reserved

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from penstock.contracts.pools import PoolStatus

CHANGEABLE_IF_RESERVED: Final = frozenset({"concurrency_limit"})
"""Of a reserved pool only this may be updated (pausing is a command of its own), as in Prefect."""


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
