"""Settings common to every party: ``PENSTOCK_*`` variables, read once at the start, passed down.

A party's own variables carry its name (``PENSTOCK_DISPATCHER_...``); its class derives from :class:`Settings` and sets
``env_prefix`` to that, or gives each of its fields the variable as ``validation_alias``; the common ones keep their names.
A ``PENSTOCK_`` variable that nobody knows is an error: a mistyped limit must not be ignored.
"""

from __future__ import annotations

import difflib
import os
import re
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal, Self
from urllib.parse import parse_qs, urlsplit

from pydantic import AliasChoices, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from penstock.errors import BadSettings
from penstock.keys import MAX_PARTITIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX: Final = "PENSTOCK_"
PARTIES: Final = ("POOL_REGISTRY", "HEARTBEAT_MONITOR", "DISPATCHER", "SCHEDULER", "GATEWAY", "WORKER", "UP", "DEMO")
"""Who may have variables of their own; a party checks its own and leaves the others' alone."""
RUN_VARIABLES: Final = ("PENSTOCK_RUN_", "PENSTOCK_PARAM_")
"""What a worker sets for a run's process; a command inside a run is not misled by them."""
COMPOSE_VARIABLES: Final = frozenset({"PENSTOCK_REDIS_PORT"})
"""What only compose.yaml reads; somebody who exports it may use the command line beside it."""


def _common(name: str) -> Any:
    """Pin the variable of a common field, so that a party's own prefix does not rename it."""
    return AliasChoices(f"{PREFIX}{name.upper()}")


class Settings(BaseSettings):
    """What every party needs to know.

    Attributes:
        redis_url: where Redis is, ``redis://[user:password@]host:port/db``, ``rediss://...`` or ``unix://path``.
        partitions: into how many hash slots pools are spread; fixed when the installation first starts.
        log_level: least important level that is logged.
        log_format: ``json`` for one JSON object a line, ``text`` for people.
        health_port: where ``/livez``, ``/readyz`` and ``/metrics`` are served; 0 picks a free port, -1 serves nothing.
        health_host: address to serve them on.
        default_pool: the work pool a command means that is given none; '' means the only one there is.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", populate_by_name=True)

    party: ClassVar[str] = ""

    redis_url: Annotated[str, Field(validation_alias=_common("redis_url"))] = "redis://127.0.0.1:6379/0"
    partitions: Annotated[int, Field(ge=1, le=MAX_PARTITIONS, validation_alias=_common("partitions"))] = 1
    log_level: Annotated[Literal["debug", "info", "warning", "error"], Field(validation_alias=_common("log_level"))] = (
        "info"
    )
    log_format: Annotated[Literal["json", "text"], Field(validation_alias=_common("log_format"))] = "json"
    health_port: Annotated[int, Field(ge=-1, le=65_535, validation_alias=_common("health_port"))] = 8090
    health_host: Annotated[str, Field(validation_alias=_common("health_host"))] = "0.0.0.0"  # noqa: S104 - a container is probed from outside
    default_pool: Annotated[str, Field(validation_alias=_common("default_pool"))] = ""

    @field_validator("redis_url")
    @classmethod
    def _is_redis(cls, value: str) -> str:
        if not value.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("expected redis://host:port/db, rediss://... or unix://path")
        parts = urlsplit(value)
        _ = parts.port  # raises ValueError for a port that is no port
        forbidden = sorted({"decode_responses", "protocol"} & set(parse_qs(parts.query)))
        if forbidden:
            raise ValueError(
                f"{' and '.join(forbidden)} cannot be chosen: the bus reads bytes, in the client's own protocol"
            )
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


def _variables(settings_class: type[Settings]) -> frozenset[str]:
    """Names of the variables a class reads."""
    names = set()
    for name, about in settings_class.model_fields.items():
        match about.validation_alias:
            case str() as alias:
                names.add(alias.upper())
            case AliasChoices(choices=choices):
                names.update(choice.upper() for choice in choices if isinstance(choice, str))
            case _:
                names.add(f"{settings_class.model_config.get('env_prefix', PREFIX)}{name}".upper())
    return frozenset(names)


_COMMON: Final = _variables(Settings)


def _subclasses(settings_class: type[Settings]) -> Iterator[type[Settings]]:
    for below in settings_class.__subclasses__():
        yield below
        yield from _subclasses(below)


def _refuse_unknown() -> None:
    known = _COMMON.union(*(_variables(settings_class) for settings_class in _subclasses(Settings)))
    for name in os.environ:
        # The reader of the environment does not tell capitals from small letters, so neither does this.
        variable = name.upper()
        if (
            not variable.startswith(PREFIX)
            or variable in known | COMPOSE_VARIABLES
            or variable.startswith(RUN_VARIABLES)
        ):
            continue
        party = next((f"{PREFIX}{party}_" for party in PARTIES if variable.startswith(f"{PREFIX}{party}_")), None)
        if party and not any(other.startswith(party) for other in known):
            continue  # its class is not imported here, so it is that party's business
        close = next(iter(difflib.get_close_matches(variable, sorted(known), 1, 0.7)), "")
        raise BadSettings(f"unknown variable {name}" + (f"; did you mean {close}?" if close else ""))


def _explain(problem: ValidationError, prefix: str) -> str:
    lines = []
    for error in problem.errors():
        name = "_".join(str(part) for part in error["loc"]).upper()
        variable = name if name.startswith(PREFIX) else f"{prefix}{name}"
        # A password must not end up in a log.
        given = re.sub(r"(?<=//)[^/@]*@", "***@", repr(error["input"]))
        lines.append(f"{variable}={given}: {error['msg']}")
    return "; ".join(lines)
