"""Deployments: what is run where, with which parameters, and when; the commands that define them, on ``commands``."""

from __future__ import annotations

import uuid
from typing import Annotated, Final, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, model_validator

from penstock.contracts.base import Changes, Command, Id, Json, Limit, Message, Moment, Name, check_name
from penstock.contracts.pools import Description  # noqa: TC001 - pydantic reads it at run time
from penstock.contracts.queues import DEFAULT_QUEUE
from penstock.contracts.runs import CatchUp, Retries, RetryDelay, check_work

CollisionStrategy = Literal["enqueue", "cancel_new"]
"""What becomes of a run whose deployment is at its limit when its turn comes: it waits, or it is CANCELLED."""

MAX_SCHEDULES: Final = 100
MIN_INTERVAL_SECONDS: Final = 1.0
MAX_INTERVAL_SECONDS: Final = 366 * 86_400.0
_FLOWS: Final = uuid.UUID("3e0f6f55-8a0c-5b1e-9d57-0c3a2b6c7f10")


def flow_id(flow: str) -> str:
    """Name a flow in events: a version 5 UUID of its name, for a flow is nothing but a name."""
    return str(uuid.uuid5(_FLOWS, flow))


def check_deployment_name(name: str) -> str:
    """Normalise and check ``flow/deployment``.

    Raises:
        ValueError: it has not two parts, or a part is no name.
    """
    parts = name.split("/")
    if len(parts) != 2:  # noqa: PLR2004 - flow and deployment
        raise ValueError(f"{name!r} is not of the form flow/deployment")
    return "/".join(check_name(part) for part in parts)


DeploymentName = Annotated[
    str,
    AfterValidator(check_deployment_name),
    WithJsonSchema({"type": "string", "pattern": r"^[^/%&><\x00-\x1f\x7f]+/[^/%&><\x00-\x1f\x7f]+$"}),
]
"""``flow/deployment``; each part is a name."""


def check_timezone(name: str) -> str:
    """Check an IANA time zone.

    Raises:
        ValueError: there is no such zone.
    """
    try:
        ZoneInfo(name)
    except (KeyError, OSError, ValueError) as problem:
        raise ValueError(f"unknown time zone {name!r}; expected an IANA name such as Europe/Berlin") from problem
    return name


TimeZone = Annotated[str, AfterValidator(check_timezone)]
Slug = Annotated[str, Field(max_length=200)]


class ScheduleSpec(BaseModel):
    """When runs are due; exactly one of ``cron``, ``interval_seconds`` and ``rrule``.

    Attributes:
        cron: five fields (or six, seconds first), or a name such as ``@hourly``.
        interval_seconds: from one fire time to the next, 1 s to 366 days. Whole days follow the wall clock of the time zone.
        anchor: a moment the interval, or a rule without DTSTART, is counted from; None means the creation of the schedule.
        rrule: RFC 5545, with or without a DTSTART line.
        timezone: IANA name; decides about wall clock and daylight saving time.
        catch_up: what becomes of fire times that were missed: ``all`` run, only the ``latest``, or ``none``.
        active: False while paused.
        parameters: of the runs of this schedule; they win over the deployment's.
        slug: names the schedule within its deployment.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    cron: Annotated[str, Field(max_length=1000)] | None = None
    interval_seconds: (
        Annotated[float, Field(ge=MIN_INTERVAL_SECONDS, le=MAX_INTERVAL_SECONDS, allow_inf_nan=False)] | None
    ) = None
    anchor: Moment | None = None
    rrule: Annotated[str, Field(max_length=6500)] | None = None
    timezone: TimeZone = "UTC"
    catch_up: CatchUp = "all"
    active: bool = True
    parameters: Json = Field(default_factory=dict)
    slug: Slug = ""

    @model_validator(mode="after")
    def _one_kind(self) -> ScheduleSpec:
        if sum(one is not None for one in (self.cron, self.interval_seconds, self.rrule)) != 1:
            raise ValueError("give exactly one of cron, interval_seconds and rrule")
        return self


class Schedule(ScheduleSpec):
    """A schedule of a deployment."""

    id: str


class _Definition(BaseModel):
    """What commands say of a deployment, created or changed."""

    pool: Name = ""
    queue: Name = DEFAULT_QUEUE
    entrypoint: Annotated[str, Field(max_length=1000)] | None = None
    command: Annotated[list[str], Field(min_length=1, max_length=1000)] | Annotated[str, Field(min_length=1)] | None = (
        None
    )
    working_dir: str | None = None
    parameters: Json = Field(default_factory=dict)
    parameter_schema: Json | None = None
    job_variables: Json = Field(default_factory=dict)
    tags: Annotated[list[str], Field(max_length=100)] = Field(default_factory=list)
    description: Description | None = None
    version: Annotated[str, Field(max_length=200)] | None = None
    concurrency_limit: Limit | None = None
    collision_strategy: CollisionStrategy = "enqueue"
    retries: Retries = 0
    retry_delay_seconds: RetryDelay = 0


class DeploymentChanges(_Definition, Changes):
    """Fields of a deployment to set; a field that is not given stays as it is.

    Attributes:
        pool: the work pool its runs go to. Only a pool of the same partition can be switched to; the SDK moves a deployment
            between partitions by creating it there and deleting it here.
        queue: the work queue, created when missing.
        entrypoint, command: what is executed; exactly one of them is not null in the end.
        working_dir: where, on the worker; null means a directory of the run's own.
        parameters: defaults; a run's own win key by key.
        parameter_schema: JSON Schema its runs' parameters must fit; null means that anything goes.
        job_variables: for the pool's base job template; a run's own win.
        concurrency_limit: how many of its runs are in flight at most; null means no limit.
        collision_strategy: what becomes of a run while it is reached.
        retries: how often a run that FAILED or CRASHED is started again.
        retry_delay_seconds: how long it waits before.
    """


class CreateDeployment(_Definition, Command):
    """Create a deployment. Answers with the whole deployment (:class:`Deployment`).

    With ``overwrite`` an existing one gets every field of the command; ``schedules`` and ``paused`` only where they are not null.
    ``deployment_id`` is given by who moves a deployment between partitions, so that it stays the same.
    """

    type: Literal["create_deployment"] = "create_deployment"
    deployment: DeploymentName
    pool: Name
    schedules: Annotated[list[ScheduleSpec], Field(max_length=MAX_SCHEDULES)] | None = None
    paused: bool | None = None
    overwrite: bool = False
    deployment_id: Annotated[str, Field(pattern=r"^[0-9a-f-]{36}$")] | None = None

    @model_validator(mode="after")
    def _one_thing_to_run(self) -> CreateDeployment:
        check_work(self.entrypoint, self.command)
        slugs = [schedule.slug for schedule in self.schedules or () if schedule.slug]
        twice = sorted({slug for slug in slugs if slugs.count(slug) > 1})
        if twice:
            raise ValueError(f"two schedules have the slug {twice[0]!r}")
        return self


class UpdateDeployment(Command):
    """Change fields of a deployment. Answers with the whole deployment."""

    type: Literal["update_deployment"] = "update_deployment"
    deployment: DeploymentName
    changes: DeploymentChanges


class PauseDeployment(Command):
    """Pause all schedules of a deployment: their future runs are removed. Runs can still be submitted. Answers with it."""

    type: Literal["pause_deployment"] = "pause_deployment"
    deployment: DeploymentName


class ResumeDeployment(Command):
    """Let the schedules go on, from now. Answers with the whole deployment."""

    type: Literal["resume_deployment"] = "resume_deployment"
    deployment: DeploymentName


class DeleteDeployment(Command):
    """Delete a deployment. Its waiting runs become CANCELLED, those in flight go on. Answers with it as it was.

    ``moved_to`` names the pool it lives in from now on, in another partition: then only future runs of schedules are removed.
    """

    type: Literal["delete_deployment"] = "delete_deployment"
    deployment: DeploymentName
    moved_to: Name | None = None


class CreateSchedule(Command):
    """Add a schedule to a deployment. Answers with the whole deployment."""

    type: Literal["create_schedule"] = "create_schedule"
    deployment: DeploymentName
    schedule: ScheduleSpec


class UpdateSchedule(Command):
    """Replace a schedule, or pause and resume it by its ``active``. Answers with the whole deployment.

    ``schedule_id`` is an id or a slug. ``schedule`` null leaves it as it is but for ``active``.
    """

    type: Literal["update_schedule"] = "update_schedule"
    deployment: DeploymentName
    schedule_id: Annotated[str, Field(min_length=1, max_length=200)]
    schedule: ScheduleSpec | None = None
    active: bool | None = None


class DeleteSchedule(Command):
    """Delete a schedule, by id or slug; its future runs are removed. Answers with the whole deployment."""

    type: Literal["delete_schedule"] = "delete_schedule"
    deployment: DeploymentName
    schedule_id: Annotated[str, Field(min_length=1, max_length=200)]


class DeploymentChanged(Message):
    """On ``definitions``: a deployment or one of its schedules was created or changed; the definition is in its keys.

    ``pool`` is where its runs go now, ``former_pool`` where they went before, if that was another one.
    """

    type: Literal["deployment.changed"] = "deployment.changed"
    deployment_id: Id
    deployment: str
    pool: str
    former_pool: str | None = None
    revision: int


class DeploymentDeleted(Message):
    """On ``definitions``: a deployment is gone from this partition."""

    type: Literal["deployment.deleted"] = "deployment.deleted"
    deployment_id: Id
    deployment: str
    pool: str
    moved_to: str | None = None


class Deployment(BaseModel):
    """One deployment as commands answer it and readers see it. Times are ISO 8601 in UTC.

    Attributes:
        name: ``flow/deployment``; ``flow`` the first part of it.
        revision: counts the changes that void the future runs of its schedules; ``revised_ms`` when the last one was.
    """

    id: str
    name: str
    flow: str
    pool: str
    queue: str
    entrypoint: str | None
    command: list[str] | str | None
    working_dir: str | None
    parameters: Json
    parameter_schema: Json | None
    job_variables: Json
    tags: list[str]
    description: str | None
    version: str | None
    concurrency_limit: int | None
    collision_strategy: CollisionStrategy
    retries: int
    retry_delay_seconds: float
    paused: bool
    revision: int
    revised_ms: int
    created: str
    updated: str
    schedules: list[Schedule] = Field(default_factory=list)
