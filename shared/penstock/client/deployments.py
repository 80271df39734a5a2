"""Schedules of deployments, and runs of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.client.admin import checked
from penstock.client.deployed import deployed_run
from penstock.client.deployment_admin import DeploymentAdministration
from penstock.contracts import deployments
from penstock.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from penstock.client.runs import NewRun, Submitted
    from penstock.contracts.deployments import Deployment, ScheduleSpec


class Deployments(DeploymentAdministration):
    """The part of :class:`~penstock.client.sdk.Penstock` that knows what is run, and when.

    A name is ``flow/deployment``; the second part alone will do for one that exists and is the only one of that name.
    """

    if TYPE_CHECKING:

        async def _submit(self, pool: str, runs: Sequence[NewRun]) -> list[Submitted]:
            """What :class:`~penstock.client.sdk.Penstock` adds."""

    # Schedules

    async def create_schedule(self, name: str, spec: ScheduleSpec) -> Deployment:
        """Add a schedule to a deployment."""
        found = await self._found(name)
        self._check_parameters(found[0], spec.parameters)
        return await self._change(deployments.CreateSchedule(deployment=found[0].name, schedule=spec), found)

    async def update_schedule(
        self, name: str, id_or_slug: str, *, schedule: ScheduleSpec | None = None, active: bool | None = None
    ) -> Deployment:
        """Replace a schedule, pause it or let it go on.

        Args:
            name: of the deployment.
            id_or_slug: which of its schedules.
            schedule: what it becomes; None leaves it.
            active: False pauses it, True lets it go on; None leaves it.
        """
        found = await self._found(name)
        if schedule is not None:
            self._check_parameters(found[0], schedule.parameters)
        command = checked(
            lambda: deployments.UpdateSchedule(
                deployment=found[0].name, schedule_id=id_or_slug, schedule=schedule, active=active
            )
        )
        return await self._change(command, found, schedule=id_or_slug)

    async def delete_schedule(self, name: str, id_or_slug: str) -> Deployment:
        """Delete a schedule, by id or slug; what it planned is removed."""
        found = await self._found(name)
        command = checked(lambda: deployments.DeleteSchedule(deployment=found[0].name, schedule_id=id_or_slug))
        return await self._change(command, found, schedule=id_or_slug)

    # Runs

    async def run_deployment(
        self,
        name: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        job_variables: Mapping[str, Any] | None = None,
        scheduled_time: datetime | None = None,
        idempotency_key: str | None = None,
        run_name: str | None = None,
        tags: Sequence[str] = (),
    ) -> str:
        """Submit a run of a deployment, paused or not.

        Args:
            name: of the deployment.
            parameters: win over the deployment's, key by key.
            job_variables: win over the deployment's; ``env`` key by key.
            scheduled_time: not before this moment, with a time zone; None means now.
            idempotency_key: two runs of the deployment with the same key are one.
            run_name: for people; None makes one up.
            tags: added to the deployment's.

        Returns:
            The run's id; of a known idempotency key the id of the run there is.

        Raises:
            NotFound: there is no such deployment, or its pool was deleted.
            Invalid: parameters do not fit the deployment, or job variables the pool's template; each is named.
        """
        submitted = await self.submit_deployment(
            name,
            parameters,
            job_variables=job_variables,
            scheduled_time=scheduled_time,
            idempotency_key=idempotency_key,
            run_name=run_name,
            tags=tags,
        )
        return submitted.id

    async def submit_deployment(
        self,
        name: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        job_variables: Mapping[str, Any] | None = None,
        scheduled_time: datetime | None = None,
        idempotency_key: str | None = None,
        run_name: str | None = None,
        tags: Sequence[str] = (),
    ) -> Submitted:
        """Do what :meth:`run_deployment` does, and also say whether the run is new or was there under its idempotency key."""
        deployment = await self.read_deployment(name)
        self._check_parameters(deployment, parameters or {})
        run = deployed_run(
            deployment,
            parameters=parameters,
            job_variables=job_variables,
            run_name=run_name,
            scheduled_time=scheduled_time,
            idempotency_key=idempotency_key,
            tags=tags,
        )
        try:
            return (await self._submit(deployment.pool, [run]))[0]
        except NotFound as problem:
            if deployment.pool in await self._store.pool_names():
                raise
            raise NotFound(
                f"work pool '{deployment.pool}' of deployment '{deployment.name}' does not exist any more",
                f"`penstock work-pool create '{deployment.pool}'` brings it back, "
                f"`penstock deployment update '{deployment.name}' --pool POOL` takes another",
            ) from problem
