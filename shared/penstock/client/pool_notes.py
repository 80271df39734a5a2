"""What a pool makes of names it does not know: a job variable changes nothing, a queue is created; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.client.wording import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable

    from penstock.contracts.pools import Pool


def unknown_variables(pool: Pool, names: Iterable[str]) -> list[str]:
    """Name job variables that the template of a pool does not declare: they are allowed, and nothing reads them.

    Args:
        pool: whose template counts.
        names: of the variables; ``env.DEBUG`` is one of ``env``.
    """
    declared = pool.base_job_template.get("variables", {}).get("properties", {})
    unknown = [name for name in dict.fromkeys(each.partition(".")[0] for each in names) if name not in declared]
    return [
        _with_hint(f"work pool '{pool.name}' has no job variable '{name}': it changes nothing", name, declared)
        for name in unknown
    ]


def new_queue(pool: Pool, queue: str) -> list[str]:
    """Say that a queue will be created; nothing when it exists."""
    known = [one.name for one in pool.queues]
    if queue in known:
        return []
    return [_with_hint(f"this creates work queue '{queue}' in '{pool.name}'", queue, known)]


def _with_hint(told: str, name: str, known: Iterable[str]) -> str:
    meant = did_you_mean(name, known)
    return f"{told}; {meant}" if meant else told
