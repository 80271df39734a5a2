"""What a pool's base job template adds to a run, before the run is started."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import orjson
import structlog

from penstock.client.store import read_template
from penstock.errors import Unavailable
from penstock.templates import Problem, job_configuration
from penstock.templates.problems import problem, refuse

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from penstock.contracts.runs import RunSpec
    from penstock.worker.identity import Identity

log = structlog.get_logger("penstock.worker")

READ_SECONDS: Final = 2.0
"""How long Redis may take to say what the template is, before the last known one is used."""
SUBJECT: Final = "job configuration"


def laid_under(spec: RunSpec, configuration: dict[str, Any]) -> RunSpec:
    """Complete a run's specification by its rendered job configuration; whatever the run says itself wins.

    ``env`` and ``labels`` are merged key by key; ``working_dir`` is taken where the run has none; ``stream_output`` is off
    when either says so. A run always has an entrypoint or a command, and a name: ``command`` and ``name`` of the
    configuration are for workers of other types.

    Args:
        spec: of the run.
        configuration: as :func:`penstock.templates.job_configuration` answers it.

    Returns:
        The specification to execute; the same object when nothing is added.

    Raises:
        Invalid: a field has a type no process can be given; names path, reason and rule.
    """
    problems: list[Problem] = []
    env = {name: _text(value) for name, value in _mapping(configuration, "env", problems).items()}
    labels = {name: _text(value) or "" for name, value in _mapping(configuration, "labels", problems).items()}
    folder, shown = configuration.get("working_dir"), configuration.get("stream_output")
    if not (folder is None or isinstance(folder, str)):
        problems.append(problem(("working_dir",), "type", "a working directory is a text"))
    if not (shown is None or isinstance(shown, bool)):
        problems.append(problem(("stream_output",), "type", "it is true or false"))
    refuse(SUBJECT, problems)
    added: dict[str, Any] = {}
    if env:
        added["env"] = env | spec.env
    if labels:
        added["labels"] = labels | spec.labels
    if folder and spec.working_dir is None:
        added["working_dir"] = folder
    if shown is False:
        added["stream_output"] = False
    return spec.model_copy(update=added) if added else spec


def _mapping(configuration: dict[str, Any], field: str, problems: list[Problem]) -> dict[str, Any]:
    value = configuration.get(field)
    if value is None or isinstance(value, dict):
        return value or {}
    problems.append(problem((field,), "type", "an object of names and texts is needed"))
    return {}


def _text(value: Any) -> str | None:
    """Text as it is, null as nothing, everything else as JSON."""
    return value if value is None or isinstance(value, str) else orjson.dumps(value).decode()


class _Template:
    """One text of a template, and what it renders to for a run without job variables."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self._template: Any = orjson.loads(text)
        self._plain: dict[str, Any] | None = None

    async def configuration(self, variables: dict[str, Any]) -> dict[str, Any]:
        if variables:
            # The worst of templates takes long enough to hold up a heartbeat.
            return await asyncio.to_thread(job_configuration, self._template, None, variables)
        if self._plain is None:
            self._plain = await asyncio.to_thread(job_configuration, self._template)
        return self._plain


class Preparation:
    """Renders the template of one pool for the runs of one worker.

    It is read once for each batch of assignments, while their processes are not there yet. A run that has been prepared
    stays as it is. While Redis does not answer, the last known template is used.

    Args:
        client: of the Redis the pool lives in.
        identity: the worker's; names the pool.
    """

    def __init__(self, client: Redis, identity: Identity) -> None:
        self._client = client
        self._identity = identity
        self._known: _Template | None = None
        self._latest: asyncio.Task[_Template] | None = None
        self._readings: set[asyncio.Task[_Template]] = set()

    def begin_batch(self) -> None:
        """Read the template again, for the runs that are prepared from now on."""
        self._begin()

    async def prepare(self, spec: RunSpec) -> RunSpec:
        """Complete a run's specification by what the template makes of its job variables.

        Raises:
            Invalid: the variables break a rule of the template, or the result cannot be given to a process.
            Unavailable: Redis does not answer, and no template is known.
        """
        # Shielded: one run that is given up must not take the reading away from the others.
        template = await asyncio.shield(self._latest or self._begin())
        return laid_under(spec, await template.configuration(spec.job_variables))

    def _begin(self) -> asyncio.Task[_Template]:
        reading = self._latest = asyncio.create_task(self._read(), name="template")
        self._readings.add(reading)
        reading.add_done_callback(self._over)
        return reading

    def _over(self, reading: asyncio.Task[_Template]) -> None:
        self._readings.discard(reading)
        if not reading.cancelled():
            # Looked at here, or Python complains about an error that no run was interested in.
            reading.exception()

    async def _read(self) -> _Template:
        try:
            async with asyncio.timeout(READ_SECONDS):
                text = await read_template(self._client, self._identity.partition, self._identity.pool)
        except (Unavailable, TimeoutError) as failure:
            if self._known is None:
                raise Unavailable(
                    f"the template of pool {self._identity.pool!r} cannot be read: {failure}"
                ) from failure
            log.warning(
                "Redis does not say what the pool's template is; the last one known is used", error=str(failure)
            )
            return self._known
        # A pool that has just been deleted has its runs revoked; until then nothing changes for them.
        if self._known is None or (text is not None and text != self._known.text):
            self._known = _Template(text or b"{}")
        return self._known
