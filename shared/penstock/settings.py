"""Settings common to every party: ``PENSTOCK_*`` variables, read once at the start, passed down.

A party's own variables carry its name (``PENSTOCK_DISPATCHER_...``); its class derives from :class:`Settings` with that prefix.
A ``PENSTOCK_`` variable that nobody knows is an error: a mistyped limit must not be ignored.
"""

from __future__ import annotations

import os
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from penstock.errors import BadSettings
from penstock.keys import MAX_PARTITIONS

PREFIX: Final = "PENSTOCK_"
PARTIES: Final = ("POOL_REGISTRY", "HEARTBEAT_MONITOR", "DISPATCHER", "SCHEDULER", "GATEWAY", "WORKER", "UP", "DEMO")
"""Who may have variables of their own; a party checks its own and leaves the others' alone."""
RUN_VARIABLES: Final = ("PENSTOCK_RUN_", "PENSTOCK_PARAM_")
"""What a worker sets for a run's process; a command inside a run is not misled by them."""


class Settings(BaseSettings):
    """What every party needs to know.

    Attributes:
        redis_url: where Redis is, ``redis://[user:password@]host:port/db`` or ``rediss://``.
        partitions: into how many hash slots pools are spread; fixed when the installation first starts.
        log_level: least important level that is logged.
        log_format: ``json`` for one JSON object a line, ``text`` for people.
        health_port: where ``/livez``, ``/readyz`` and ``/metrics`` are served; 0 picks a free port, -1 serves nothing.
        health_host: address to serve them on.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    party: ClassVar[str] = ""

    redis_url: str = "redis://127.0.0.1:6379/0"
    partitions: Annotated[int, Field(ge=1, le=MAX_PARTITIONS)] = 1
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "text"] = "json"
    health_port: Annotated[int, Field(ge=-1, le=65_535)] = 8090
    health_host: str = "0.0.0.0"  # noqa: S104 - a container is probed from outside

    @field_validator("redis_url")
    @classmethod
    def _is_redis(cls, value: str) -> str:
        if not value.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("expected redis://host:port/db, rediss://... or unix://path")
        return value

    @classmethod
    def read(cls, **overrides: Any) -> Self:
        """Read the environment.

        Args:
            **overrides: values that win over the environment, e.g. from the command line; None means "not given".

        Raises:
            BadSettings: a variable is unknown or its value wrong; the message names it.
        """
        _refuse_unknown()
        given = {name: value for name, value in overrides.items() if value is not None}
        try:
            return cls(**given)
        except ValidationError as problem:
            raise BadSettings(_explain(problem, cls.model_config.get("env_prefix", PREFIX))) from problem


_COMMON: Final = frozenset(f"{PREFIX}{name.upper()}" for name in Settings.model_fields)


def _refuse_unknown() -> None:
    for name in os.environ:
        if not name.startswith(PREFIX) or name in _COMMON or name.startswith(RUN_VARIABLES):
            continue
        party = next((party for party in PARTIES if name.startswith(f"{PREFIX}{party}_")), None)
        known = _party_variables(party) if party else None
        if party is None or (known is not None and name not in known):
            close = _closest(name, [*_COMMON, *(known or ())])
            raise BadSettings(f"unknown variable {name}" + (f"; did you mean {close}?" if close else ""))


def _party_variables(party: str) -> frozenset[str] | None:
    """Names a party reads, or None while its class is not imported here (then they are its business)."""
    for known in Settings.__subclasses__():
        if known.party == party:
            return frozenset(f"{PREFIX}{party}_{field.upper()}" for field in known.model_fields)
    return None


def _closest(name: str, candidates: list[str]) -> str:
    import difflib  # noqa: PLC0415 - only needed to word an error

    return next(iter(difflib.get_close_matches(name, candidates, 1, 0.7)), "")


def _explain(problem: ValidationError, prefix: str) -> str:
    lines = []
    for error in problem.errors():
        name = "_".join(str(part) for part in error["loc"]).upper()
        variable = name if name.startswith(PREFIX) else f"{prefix}{name}"
        lines.append(f"{variable}={error['input']!r}: {error['msg']}")
    return "; ".join(lines)
