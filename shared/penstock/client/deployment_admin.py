"""Define deployments: every change is a command that returns when it has been answered.

A deployment lives in the partition of its pool. One that is given a pool of another partition is created there and deleted here;
should that be interrupted, the newer one counts and the next change deletes the older one.
"""

from __future__ import annotations

import unicodedata
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from penstock import keys
from penstock.bus.requests import request
from penstock.client.admin import checked
from penstock.client.deployment_store import DeploymentStore, in_order
from penstock.client.watching import Watching
from penstock.client.wording import did_you_mean, schedule_name
from penstock.contracts import deployments
from penstock.contracts.deployments import Deployment, DeploymentChanges, ScheduleSpec
from penstock.contracts.queues import DEFAULT_QUEUE
from penstock.errors import Conflict, Invalid, NotFound
from penstock.streams import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from penstock.client.deployment_store import DeploymentCounts
    from penstock.contracts.base import Command

MAX_FLOWS_SHOWN: Final = 5
_MAY_HAVE_CHANGED: Final = "if the function has changed since it was deployed, `penstock deploy` it again"
_LIST: Final = "`penstock deployment ls` lists them"


class DeploymentAdministration(Watching):
    """The part of :class:`~penstock.client.sdk.Penstock` that defines deployments.

    A name is ``flow/deployment``; the second part alone will do for one that exists and is the only one of that name.
    """

    # Definitions

    async def create_deployment(
        self,
        name: str,
        *,
        pool: str,
        queue: str = DEFAULT_QUEUE,
        entrypoint: str | None = None,
        command: list[str] | str | None = None,
        working_dir: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        parameter_schema: Mapping[str, Any] | None = None,
        job_variables: Mapping[str, Any] | None = None,
        tags: Sequence[str] = (),
        description: str | None = None,
        version: str | None = None,
        concurrency_limit: int | None = None,
        collision_strategy: deployments.CollisionStrategy = "enqueue",
        retries: int = 0,
        retry_delay_seconds: float = 0,
        schedules: Sequence[ScheduleSpec] | None = None,
        paused: bool | None = None,
        overwrite: bool = False,
    ) -> Deployment:
        """Create a deployment; exactly one of ``entrypoint`` and ``command``.

        Args:
            name: ``flow/deployment``, each without ``/ % & > <``.
            pool: where its runs go.
            queue: where they wait; created when missing.
            entrypoint: ``path/to/file.py:function``, relative to ``working_dir``.
            command: an argument list, or one text that is split as a shell would.
            working_dir: on the worker; None means a temporary directory per run.
            parameters: of every run that does not say otherwise.
            parameter_schema: JSON Schema of the parameters; None allows any.
            job_variables: for the pool's base job template.
            tags: for people, on every run.
            description: for people.
            version: for people.
            concurrency_limit: how many of its runs are in flight at most; None means no limit but the pool's and queue's.
            collision_strategy: what becomes of a run at the limit: ``enqueue`` lets it wait, ``cancel_new`` cancels it.
            retries: how often a run that FAILED or CRASHED is started again, 0 to 1000.
            retry_delay_seconds: how long it waits before.
            schedules: when runs of it are due. None means none, or with ``overwrite`` those it has.
            paused: its schedules make no runs. None means that they do, or with ``overwrite`` as it is.
            overwrite: set every field of an existing one instead of refusing.
        """
        command_ = checked(
            lambda: deployments.CreateDeployment(
                deployment=name,
                pool=pool,
                queue=queue,
                entrypoint=entrypoint,
                command=command,
                working_dir=working_dir,
                parameters=dict(parameters or {}),
                parameter_schema=None if parameter_schema is None else dict(parameter_schema),
                job_variables=dict(job_variables or {}),
                tags=list(tags),
                description=description,
                version=version,
                concurrency_limit=concurrency_limit,
                collision_strategy=collision_strategy,
                retries=retries,
                retry_delay_seconds=retry_delay_seconds,
                schedules=None if schedules is None else list(schedules),
                paused=paused,
                overwrite=overwrite,
            )
        )
        self._check_defaults(command_)
        found = await self._deployments.find(command_.deployment)
        if all(self._partition(one.pool) == self._partition(command_.pool) for one in found):
            return _answered(await self._command(command_))
        if not overwrite:
            raise Conflict(
                f"deployment '{command_.deployment}' exists already, in work pool '{found[0].pool}'",
                "give another name, or overwrite it",
            )
        return await self._move(found, command_)

    async def update_deployment(self, name: str, /, **changes: Any) -> Deployment:
        """Change fields (:class:`~penstock.contracts.deployments.DeploymentChanges`); the others stay as they are."""
        given = checked(lambda: DeploymentChanges(**changes))
        found = await self._found(name)
        newest = found[0]
        if "parameters" in given.model_fields_set or "parameter_schema" in given.model_fields_set:
            self._check_parameters(newest.model_copy(update=given.model_dump()), {}, partial=True)
        if "pool" not in given.model_fields_set or self._partition(given.pool) == self._partition(newest.pool):
            return await self._change(
                deployments.UpdateDeployment(deployment=newest.name, changes=given), found, given.pool
            )
        values = newest.model_dump(include=set(DeploymentChanges.model_fields)) | given.model_dump()
        return await self._move(
            found, checked(lambda: deployments.CreateDeployment(deployment=newest.name, overwrite=True, **values))
        )

    async def pause_deployment(self, name: str) -> Deployment:
        """Pause all its schedules: once this has returned, nothing they planned is handed out. It can still be run."""
        found = await self._found(name)
        return await self._change(deployments.PauseDeployment(deployment=found[0].name), found)

    async def resume_deployment(self, name: str) -> Deployment:
        """Let its schedules go on, from now."""
        found = await self._found(name)
        return await self._change(deployments.ResumeDeployment(deployment=found[0].name), found)

    async def delete_deployment(self, name: str) -> None:
        """Delete a deployment with its schedules. Its waiting runs become CANCELLED, those in flight go on."""
        for one in await self._found(name):
            await self._send(deployments.DeleteDeployment(deployment=one.name), one)

    async def read_deployment(self, name: str) -> Deployment:
        """One deployment with its schedules."""
        return (await self._found(name))[0]

    async def read_deployments(self, pool: str | None = None) -> list[Deployment]:
        """Deployments with their schedules, by name.

        Args:
            pool: only those of this one; None means all. A pool that was deleted may still have some.
        """
        name = None if pool is None else unicodedata.normalize("NFC", pool)
        found = await self._deployments.read_all(name)
        if name is not None and not found and name not in await self._store.pool_names():
            raise await self._no_pool(name)
        return found

    async def read_deployment_counts(self, deployments: Sequence[Deployment]) -> list[DeploymentCounts]:
        """How many runs of each deployment wait, and how many are in flight, in their order."""
        return await self._deployments.read_counts(deployments)

    # Inside

    @cached_property
    def _deployments(self) -> DeploymentStore:
        return DeploymentStore(self._client, self._partitions)

    def _partition(self, pool: str) -> int:
        return keys.partition_of_pool(pool, self._partitions)

    async def _found(self, name: str) -> list[Deployment]:
        """Find a deployment, see :meth:`DeploymentStore.find`."""
        name = unicodedata.normalize("NFC", name)
        known: list[str] = []
        if "/" not in name:
            known = await self._deployments.names()
            same = [one for one in known if one.partition("/")[2] == name]
            if len(same) > 1:
                shown = ", ".join(same[:MAX_FLOWS_SHOWN]) + (", ..." if len(same) > MAX_FLOWS_SHOWN else "")
                raise Invalid(f"{len(same)} deployments are called '{name}': {shown}", "give the name with its flow")
            name = same[0] if same else name
        found = await self._deployments.find(name)
        if not found:
            raise _no_deployment(name, known or await self._deployments.names())
        return found

    async def _change(
        self, command: Command, found: Sequence[Deployment], pool: str = "", *, schedule: str = ""
    ) -> Deployment:
        newest, *older = found
        await self._forget(older, newest.pool)
        return _answered(await self._send(command, newest, pool, schedule))

    async def _move(self, found: Sequence[Deployment], command: deployments.CreateDeployment) -> Deployment:
        """Create it where it will be, then delete it where it was: somebody who dies in between leaves it where it is found."""
        old = found[0]
        kept = [ScheduleSpec.model_validate(one.model_dump(exclude={"id"})) for one in old.schedules]
        whole = command.model_copy(
            update={
                "deployment_id": old.id,
                "schedules": kept if command.schedules is None else command.schedules,
                "paused": old.paused if command.paused is None else command.paused,
            }
        )
        moved = _answered(await self._command(whole))
        await self._forget(
            [one for one in found if self._partition(one.pool) != self._partition(moved.pool)], moved.pool
        )
        return moved

    async def _forget(self, older: Sequence[Deployment], pool: str) -> None:
        """Finish a move: delete a deployment where it was."""
        for one in older:
            await self._send(deployments.DeleteDeployment(deployment=one.name, moved_to=pool), one)

    async def _send(self, command: Command, where: Deployment, pool: str = "", schedule: str = "") -> Any:
        try:
            return await request(self._client, COMMANDS, self._partition(where.pool), command, self._timeout)
        except NotFound as problem:
            if pool and pool not in await self._store.pool_names():
                raise await self._no_pool(pool) from problem
            now = await self._deployments.find(where.name)
            if not now:
                raise _no_deployment(where.name, await self._deployments.names()) from problem
            slugs = [one.slug for one in now[0].schedules if one.slug]
            if schedule and schedule not in {*slugs, *(one.id for one in now[0].schedules)}:
                hint = did_you_mean(schedule, slugs) or f"`penstock deployment schedule ls '{where.name}'` lists them"
                raise NotFound(f"deployment '{where.name}' has no schedule '{schedule}'", hint) from problem
            raise

    def _check_defaults(self, command: deployments.CreateDeployment) -> None:
        """Refuse parameters no run could have; a schedule must bring all that is needed."""
        if not command.parameter_schema:
            return
        subject = f"parameters of deployment '{command.deployment}'"
        _ensure(subject, command.parameter_schema, command.parameters, partial=True)
        for number, schedule in enumerate(command.schedules or (), 1):
            which = f"parameters of {schedule_name(schedule, number)} of deployment '{command.deployment}'"
            _ensure(which, command.parameter_schema, {**command.parameters, **schedule.parameters}, partial=False)

    def _check_parameters(
        self, deployment: Deployment, parameters: Mapping[str, Any], *, partial: bool = False
    ) -> None:
        subject = f"parameters of deployment '{deployment.name}'"
        try:
            _ensure(subject, deployment.parameter_schema, {**deployment.parameters, **parameters}, partial=partial)
        except Invalid as problem:
            if deployment.entrypoint is None:
                raise
            # What counts is the function as it was when it was deployed.
            raise Invalid(problem.message, f"{problem.hint}; {_MAY_HAVE_CHANGED}") from problem


def _ensure(subject: str, schema: dict[str, Any] | None, parameters: Mapping[str, Any], *, partial: bool) -> None:
    if schema:
        from penstock.client.parameters import ensure_parameters  # noqa: PLC0415 - without a schema no schema library

        ensure_parameters(subject, schema, parameters, partial=partial)


def _answered(result: Any) -> Deployment:
    return in_order(Deployment.model_validate(result))


def _no_deployment(name: str, known: Sequence[str]) -> NotFound:
    labels = () if "/" in name else {one.partition("/")[2] for one in known}
    meant = did_you_mean(name, known) or did_you_mean(name, sorted(labels))
    return NotFound(f"there is no deployment '{name}'", meant or (_LIST if known else "no deployment exists yet"))
