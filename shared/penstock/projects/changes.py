"""What deploying again has changed of a deployment, in words; pure."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any, Final

from penstock.schedules import describe
from penstock.templates.problems import printable, shortened

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.contracts.deployments import Deployment, Schedule

MAX_VALUE_SHOWN: Final = 80
"""Characters of a value; who wants all of it asks ``deployment inspect``."""
PLAIN: Final = {
    "pool": "pool",
    "queue": "queue",
    "entrypoint": "entrypoint",
    "command": "command",
    "working_dir": "directory",
    "tags": "tags",
    "version": "version",
    "concurrency_limit": "concurrency limit",
    "collision_strategy": "collision strategy",
    "retries": "retries",
    "retry_delay_seconds": "retry delay",
    "paused": "paused",
}
"""Fields whose values are shown, as ``deploy`` calls them."""


def differences(before: Deployment, now: Deployment) -> list[str]:
    """Say what is another than it was: ``retries 2 -> 0``, ``schedule 'often' removed``.

    The values of job variables are not shown: some are secret.
    """
    told = [
        f"{label} {spelled(getattr(before, name))} -> {spelled(getattr(now, name))}"
        for name, label in PLAIN.items()
        if getattr(before, name) != getattr(now, name)
    ]
    told += _of_mapping("parameters", before.parameters, now.parameters, shown=True)
    told += _of_mapping("job variables", before.job_variables, now.job_variables, shown=False)
    if before.parameter_schema != now.parameter_schema:
        told.append(_signature(before.parameter_schema, now.parameter_schema))
    if before.description != now.description:
        told.append("description changed" if now.description else "description removed")
    return [*told, *_schedules(before.schedules, now.schedules)]


def other_code(before: Deployment, now: Deployment) -> str:
    """Say that a deployment runs code from somewhere else now; '' when it does not. Another function of the file is no surprise."""
    was, is_ = before.working_dir, now.working_dir
    if was != is_:
        return f"'{now.name}' ran in {spelled(was)} before; from now on its runs start in {spelled(is_)}"
    old, new = _file(before), _file(now)
    return f"'{now.name}' ran {old} before; from now on it runs {new}" if old != new else ""


def spelled(value: Any) -> str:
    """Spell a value on one line."""
    if value is None or value in ([], {}, ""):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        value = shlex.join(value)
    if isinstance(value, float):
        value = f"{value:g}"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return printable(shortened(text, MAX_VALUE_SHOWN))


def _file(deployment: Deployment) -> str:
    if deployment.entrypoint is None:
        return f"the command {spelled(deployment.command)}"
    return deployment.entrypoint.rpartition(":")[0]


def _of_mapping(label: str, before: dict[str, Any], now: dict[str, Any], *, shown: bool) -> Iterator[str]:
    told = []
    for name in sorted({*before, *now}):
        if name not in now:
            told.append(f"{name} removed")
        elif name not in before:
            told.append(f"{name} added" + (f" ({spelled(now[name])})" if shown else ""))
        elif before[name] != now[name]:
            told.append(f"{name} {spelled(before[name])} -> {spelled(now[name])}" if shown else f"{name} changed")
    if told:
        yield f"{label}: {', '.join(told)}"


def _signature(before: dict[str, Any] | None, now: dict[str, Any] | None) -> str:
    if before is None or now is None:
        return "its parameters are checked now" if now is not None else "its parameters are not checked any more"
    old, new = before.get("properties", {}), now.get("properties", {})
    told = [f"{name} added" for name in new if name not in old] + [f"{name} removed" for name in old if name not in new]
    told += [f"{name} changed" for name in new if name in old and new[name] != old[name]]
    return f"what the function takes: {', '.join(told)}" if told else "what the function takes changed"


def _schedules(before: list[Schedule], now: list[Schedule]) -> Iterator[str]:
    old = [one for one in before if one not in now]
    new = [one for one in now if one not in before]
    for one in old:
        after = next((each for each in new if _same(one, each)), None)
        if after is None:
            yield f"schedule {_name(one)} removed"
            continue
        new.remove(after)
        was, is_ = describe(one), describe(after)
        if was != is_:
            yield f"schedule {_name(one)}: {was} -> {is_}"
        elif changed := _changed(one, after):
            yield f"schedule {_name(one)}: {', '.join(changed)} changed"
    for one in new:
        yield f"schedule {_name(one)} added"


def _same(one: Schedule, other: Schedule) -> bool:
    if one.id == other.id:
        return True
    return one.slug == other.slug and (bool(one.slug) or describe(one) == describe(other))


def _changed(one: Schedule, other: Schedule) -> list[str]:
    named = {"catch_up": "catch-up", "anchor": "anchor", "active": "active", "parameters": "parameters", "slug": "slug"}
    return [label for name, label in named.items() if getattr(one, name) != getattr(other, name)]


def _name(schedule: Schedule) -> str:
    return f"'{schedule.slug}'" if schedule.slug else describe(schedule)
