"""What surrounds a run's process: its environment, its folder, where its entrypoint is. Pure rules."""

from __future__ import annotations

import os
import shlex
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import orjson

from penstock.settings import PREFIX
from penstock.worker.job import CannotStart

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.worker.job import Job

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def environment(job: Job, worker: Mapping[str, str]) -> dict[str, str]:
    """Make the environment of a run's process.

    Args:
        job: its ``spec.env`` wins over the worker's environment; None removes a variable.
        worker: the worker's own environment. Its ``PENSTOCK_`` variables stay out: they hold the address and password
            of Redis.

    Returns:
        All variables.

    Raises:
        CannotStart: a variable cannot be set (its name is empty or contains ``=``, or there is a NUL).
    """
    variables = {name: value for name, value in worker.items() if not name.startswith(PREFIX)}
    if job.spec.command is not None:
        variables |= {f"PENSTOCK_PARAM_{name.upper()}": _plain(value) for name, value in job.spec.parameters.items()}
    for name, value in job.spec.env.items():
        if value is None:
            variables.pop(name, None)
        else:
            variables[name] = value
    variables |= {
        "PENSTOCK_RUN_ID": job.run,
        "PENSTOCK_RUN_NAME": job.name,
        "PENSTOCK_RUN_POOL": job.pool,
        "PENSTOCK_RUN_QUEUE": job.queue,
        "PENSTOCK_RUN_ATTEMPT": str(job.attempt),
        "PENSTOCK_RUN_SCHEDULED_TIME": (_EPOCH + timedelta(milliseconds=job.due_ms)).isoformat(timespec="milliseconds"),
    }
    for name, value in variables.items():
        if not name or "=" in name or "\0" in name or "\0" in value:
            raise CannotStart(f"environment variable {name!r} cannot be set: an empty name, '=' or a NUL in it")
    return variables


def _plain(value: Any) -> str:
    """Text as it is; everything else as JSON."""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def instruction(job: Job, start_dir: str) -> dict[str, Any]:
    """Say to the child what to run.

    Args:
        job: the run.
        start_dir: the directory the worker was started in.

    Returns:
        The JSON object for its stdin.

    Raises:
        CannotStart: the command cannot be split into words, or is empty.
    """
    spec = job.spec
    if spec.entrypoint is None:
        return {"command": _words(spec.command or ""), "start_at": job.start_at}
    path, _, function = spec.entrypoint.rpartition(":")
    folder = os.path.join(start_dir, spec.working_dir or "")  # noqa: PTH118 - stays text on its way to the child
    return {
        "command": None,
        "path": os.path.normpath(os.path.join(folder, path)),  # noqa: PTH118
        "function": function,
        "parameters": spec.parameters,
        "start_at": job.start_at,
    }


def _words(command: str | list[str]) -> list[str]:
    if not isinstance(command, str):
        return command
    try:
        words = shlex.split(command)
    except ValueError as problem:
        # Without it: events tell this to everybody, and a command may hold a password.
        raise CannotStart(f"its command cannot be split into words: {problem}") from problem
    if not words:
        raise CannotStart("its command is empty")
    return words
