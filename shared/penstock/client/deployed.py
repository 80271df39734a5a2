"""From a deployment to a run of it: what the run says itself wins; pure. Whoever submits runs of deployments resolves them here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.client.runs import NewRun

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from penstock.contracts.deployments import Deployment
    from penstock.contracts.runs import ScheduledBy


def deployed_run(
    deployment: Deployment,
    *,
    parameters: Mapping[str, Any] | None = None,
    job_variables: Mapping[str, Any] | None = None,
    run_name: str | None = None,
    scheduled_time: datetime | None = None,
    idempotency_key: str | None = None,
    tags: Sequence[str] = (),
    scheduled_by: ScheduledBy | None = None,
) -> NewRun:
    """Resolve a deployment into a run that needs to know nothing more of it.

    Args:
        deployment: as it is now; later changes do not reach the run.
        parameters: win over the deployment's, key by key.
        job_variables: win over the deployment's; ``env`` key by key, others as a whole.
        run_name: None makes one up.
        scheduled_time: not before this moment; None means now.
        idempotency_key: makes a second run with the same key of the same deployment the first one.
        tags: added to the deployment's.
        scheduled_by: the schedule that asks for it.

    Returns:
        What :meth:`~penstock.client.sdk.Penstock.submit_runs` takes, for the deployment's pool.

    Raises:
        Invalid: job variables are no JSON, or have a dotted key that leads nowhere.
    """
    return NewRun(
        entrypoint=deployment.entrypoint,
        command=deployment.command,
        parameters={**deployment.parameters, **(parameters or {})},
        queue=deployment.queue,
        name=run_name,
        scheduled_time=scheduled_time,
        working_dir=deployment.working_dir,
        job_variables=laid_over(deployment.job_variables, dict(job_variables or {})),
        tags=list(dict.fromkeys([*deployment.tags, *tags])),
        deployment=deployment.id,
        scheduled_by=scheduled_by,
        idempotency_key=idempotency_key,
        retries=deployment.retries,
        retry_delay_seconds=deployment.retry_delay_seconds,
    )


def laid_over(lower: dict[str, Any], upper: dict[str, Any]) -> dict[str, Any]:
    """Lay job variables over others: ``env`` key by key, each other one as a whole.

    Raises:
        Invalid: one is no JSON, or has a dotted key that leads nowhere.
    """
    if not (lower and upper):
        return dict(lower or upper)
    from penstock.templates.variables import nested, overlaid  # noqa: PLC0415 - most runs need no schema library

    return overlaid(nested(lower), nested(upper))
