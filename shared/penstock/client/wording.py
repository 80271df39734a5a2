"""How errors are worded: why a value is wrong, and what was probably meant; pure."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import ValidationError

    from penstock.contracts.deployments import ScheduleSpec

CLOSE_ENOUGH: Final = 0.6
"""Similarity (difflib's ratio) from which a name is offered instead of a mistyped one."""
_BY_VALIDATORS: Final = "Value error, "


def why(problem: ValidationError) -> str:
    """Say in one line which fields are wrong and why."""
    parts = []
    for error in problem.errors(include_url=False)[:5]:
        place = ".".join(str(part) for part in error["loc"])
        text = error["msg"].removeprefix(_BY_VALIDATORS)
        # Our own validators name the value themselves; pydantic's texts need the field in front.
        parts.append(text if error["type"] == "value_error" or not place else f"{place}: {text}")
    return "; ".join(dict.fromkeys(parts))


def schedule_name(schedule: ScheduleSpec, number: int) -> str:
    """Name a schedule that may not be stored yet: by its slug, or by its place in the list and when it fires."""
    from penstock.schedules import describe  # noqa: PLC0415 - only errors need it, and its libraries are large

    return f"schedule '{schedule.slug}'" if schedule.slug else f"schedule {number} ({describe(schedule)})"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Offer the closest known name; '' when none is close."""
    candidates = list(known)
    folded = {candidate.lower(): candidate for candidate in candidates}
    close = difflib.get_close_matches(name.lower(), folded, 1, CLOSE_ENOUGH)
    return f"did you mean '{folded[close[0]]}'?" if close else ""
