"""Definitions into an installation: everything is checked before the first is sent."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from penstock.client.pool_notes import new_queue, unknown_variables
from penstock.client.wording import did_you_mean
from penstock.errors import Invalid, NotFound

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from penstock.client import Penstock
    from penstock.contracts.deployments import Deployment
    from penstock.contracts.pools import Pool
    from penstock.projects.preparation import Prepared

Outcome = Literal["created", "updated", "unchanged"]
_BOOKKEEPING = {"revision", "revised_ms", "created", "updated"}


@dataclass(frozen=True, slots=True)
class Deployed:
    """One deployment as it is now.

    Attributes:
        before: as it was; None when it is new.
        pool: where its runs go, as it was before.
    """

    deployment: Deployment
    before: Deployment | None
    pool: Pool
    prepared: Prepared

    @property
    def outcome(self) -> Outcome:
        """What became of it."""
        if self.before is None:
            return "created"
        same = self.before.model_dump(exclude=_BOOKKEEPING) == self.deployment.model_dump(exclude=_BOOKKEEPING)
        return "unchanged" if same else "updated"

    def changes(self) -> list[str]:
        """What is another than it was, see :func:`~penstock.projects.changes.differences`."""
        if self.before is None:
            return []
        from penstock.projects.changes import differences  # noqa: PLC0415 - a new deployment needs no schedule library

        return differences(self.before, self.deployment)

    def warnings(self) -> list[str]:
        """What its author may not have meant: code from somewhere else, job variables nobody reads."""
        found = unknown_variables(self.pool, self.deployment.job_variables)
        if self.before is not None:
            from penstock.projects.changes import other_code  # noqa: PLC0415 - the same

            found.insert(0, other_code(self.before, self.deployment))
        return [self.prepared.draft.told(one) for one in found if one]

    def notes(self) -> list[str]:
        """What was made besides: a queue that did not exist."""
        return new_queue(self.pool, self.deployment.queue)


async def send(
    penstock: Penstock, prepared: Sequence[Prepared], default_pool: Callable[[], Awaitable[str]]
) -> list[Deployed]:
    """Create or overwrite deployments.

    Args:
        penstock: the installation.
        prepared: what to send; checked here against pools, their templates, and the schedules there are.
        default_pool: names the pool of those that name none.

    Raises:
        NotFound: a pool does not exist; nothing has been sent.
        Invalid: job variables do not fit a pool, or schedules that stay would fail from now on; nothing has been sent.
    """
    pools = {pool.name: pool for pool in await penstock.read_pools()}
    default = await default_pool() if any(one.pool is None for one in prepared) else ""
    checked = []
    for one in prepared:
        pool = _pool(one, one.pool if one.pool is not None else default, pools)
        _check_job_variables(one, pool)
        existing = await _existing(penstock, one.name)
        if existing is not None and one.definition["schedules"] is None:
            one.ensure_schedules(existing.schedules, paused=False)
        checked.append((one, pool, existing))
    deployed = []
    for one, pool, existing in checked:
        now = await penstock.create_deployment(one.name, pool=pool.name, overwrite=True, **one.definition)
        deployed.append(Deployed(now, existing, pool, one))
    return deployed


def _pool(one: Prepared, name: str, pools: dict[str, Pool]) -> Pool:
    if name not in pools:
        meant = did_you_mean(name, pools)
        create = f"create it: penstock work-pool create {_quoted(name)}"
        raise NotFound(one.draft.told(f"there is no work pool '{name}'"), f"{meant} or {create}" if meant else create)
    return pools[name]


def _quoted(name: str) -> str:
    quoted = shlex.quote(name)
    return quoted if quoted != name else f"'{name}'"


def _check_job_variables(one: Prepared, pool: Pool) -> None:
    if not one.definition["job_variables"]:
        return
    from penstock.templates import ensure_deployment  # noqa: PLC0415 - without job variables no schema library

    try:
        ensure_deployment(pool.base_job_template, one.definition["job_variables"])
    except Invalid as problem:
        told = f"'{one.name}' does not fit work pool '{pool.name}': {problem.message}"
        hint = problem.hint or f"`penstock work-pool inspect '{pool.name}'` shows its template"
        raise Invalid(one.draft.told(told), hint) from problem


async def _existing(penstock: Penstock, name: str) -> Deployment | None:
    try:
        return await penstock.read_deployment(name)
    except NotFound:
        return None
