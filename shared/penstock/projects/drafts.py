"""What somebody wants deployed, as files and options say it; nobody has looked at the code yet."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from penstock.contracts.deployments import CollisionStrategy, ScheduleSpec

FILES: Final = ("penstock.yaml", "prefect.yaml")
"""Names of project files, looked for in this order."""
DEFAULT_NAME: Final = "default"
"""Of a deployment nobody has named."""


def absolute(path: Path) -> Path:
    """Spell a path in full, without ``..``; links stay as their owner knows them, so that they may be switched later."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() follows links


@dataclass(frozen=True, slots=True)
class Draft:
    """One deployment to be. None means that nothing was said.

    Attributes:
        project: the directory that paths are relative to; absolute.
        where: ``prefect.yaml:3``; '' when it was typed as options.
        name: the second part of the deployment's name.
        flow: the first part; None takes it from the code.
        schedules: None leaves those of an existing deployment.
        texts: parameters that may also have been meant as text: ``5`` where a text is expected.
        enforce: False deploys without a schema of the parameters.
    """

    project: Path
    where: str = ""
    name: str | None = None
    flow: str | None = None
    entrypoint: str | None = None
    command: list[str] | str | None = None
    working_dir: str | None = None
    pool: str | None = None
    queue: str | None = None
    job_variables: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    schedules: list[ScheduleSpec] | None = None
    tags: list[str] | None = None
    description: str | None = None
    version: str | None = None
    concurrency_limit: int | None = None
    collision_strategy: CollisionStrategy | None = None
    retries: int | None = None
    retry_delay_seconds: float | None = None
    paused: bool | None = None
    enforce: bool = True

    def told(self, message: str) -> str:
        """Put the place in front of a message."""
        return f"{self.where}: {message}" if self.where else message
