"""Settings common to every party: ``PENSTOCK_*`` variables, read once at the start, passed down.

A party's own variables carry its name (``PENSTOCK_DISPATCHER_...``); its class derives from :class:`Settings` and sets
``env_prefix`` to that, or gives each of its fields the variable as ``validation_alias``; the common ones keep their names.
A ``PENSTOCK_`` variable that nobody knows is an error: a mistyped limit must not be ignored.
"""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal, Self
from urllib.parse import parse_qs, quote, urlsplit, urlunsplit

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
_TLS_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
"""Options of the URL that name files; Python does not say which of them is missing."""
COMPOSE_VARIABLES: Final = frozenset({"PENSTOCK_REDIS_PORT"})
"""What only compose.yaml reads; somebody who exports it may use the command line beside it."""


def _common(name: str) -> Any:
    """Pin the variable of a common field, so that a party's own prefix does not rename it."""
    return AliasChoices(f"{PREFIX}{name.upper()}")


class Settings(BaseSettings):
    """What every party needs to know.

    Attributes:
        redis_url: where Redis is, ``redis://[user:password@]host:port/db``, ``rediss://...`` or ``unix://path``; of a Redis
            Cluster any of its nodes, ``redis+cluster://...`` or ``rediss+cluster://...``.
        redis_password_file: holds the password where the URL has none, so that it is in no environment and no listing.
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
    redis_password_file: Annotated[Path | None, Field(validation_alias=_common("redis_password_file"))] = None
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
        if not value.startswith(("redis://", "rediss://", "unix://", "redis+cluster://", "rediss+cluster://")):
            raise ValueError("expected redis://host:port/db, rediss://..., redis+cluster://... or unix://path")
        parts = urlsplit(value)
        try:
            _ = parts.port
        except ValueError:
            # What Python says quotes what it found there, which may be a password.
            raise ValueError(
                "the port is not a number from 0 to 65535; in a password, / ? # @ : and % are spelled %2F %3F %23 %40 %3A %25"
            ) from None
        options = parse_qs(parts.query)
        missing = [file for name in _TLS_FILES for file in options.get(name, ()) if not Path(file).is_file()]
        if missing:
            raise ValueError(f"the file {missing[0]} does not exist")
        forbidden = sorted({"decode_responses", "protocol"} & set(options))
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
            settings = cls(**given)
        except ValidationError as problem:
            # Not chained: the cause quotes what was given as it is, password included.
            raise BadSettings(_explain(problem, cls.model_config.get("env_prefix", PREFIX))) from None
        if settings.redis_password_file is None:
            return settings
        url = with_password(settings.redis_url, settings.redis_password_file)
        return settings.model_copy(update={"redis_url": url})


def with_password(url: str, file: Path) -> str:
    """Put the password of a file into a URL that has none.

    Args:
        url: of Redis; a password it has already wins.
        file: its only line is the password.

    Raises:
        BadSettings: the file cannot be read, or has no password in it.
    """
    parts = urlsplit(url)
    if parts.password:
        return url
    try:
        password = file.read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else "it is no text"
        raise BadSettings(f"PENSTOCK_REDIS_PASSWORD_FILE={file}: {reason}") from problem
    if not password:
        raise BadSettings(f"PENSTOCK_REDIS_PASSWORD_FILE={file}: it is empty")
    user, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user.rstrip(':')}:{quote(password, safe='')}@{host}"))


_REDIS_URL: Final = re.compile(r"[\w+]+://(\*{3}@)?(\[[0-9a-fA-F:.]+\]|[\w.-]*)(:\w{0,5})?(/[^?]*)?(\?.*)?|")
"""What may be shown; a port has five digits at most, and what is longer in its place may be a password."""


def masked(url: str) -> str:
    """Spell a URL without its password, for messages; nothing of what does not look like a URL, for it may be the password."""
    # Up to the last @, because what is wrong may be a password that has / or @ in it.
    bare = re.sub(r"(?<=//).*@", "***@", url)
    bare = re.sub(r"(?i)((?:password|passwd|secret|token)[^=&]*=)[^&]*", r"\1***", bare)
    return bare if _REDIS_URL.fullmatch(bare) else "***"


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
        given = masked(str(error["input"])) if variable.endswith("REDIS_URL") else error["input"]
        lines.append(f"{variable}={given!r}: {error['msg']}")
    return "; ".join(lines)
