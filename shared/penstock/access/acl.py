"""Grants as lines of a Redis ACL file.

=========  =============================================================================================================
dialect    what it can say
=========  =============================================================================================================
``6.2``    one list of commands and one of keys for each user: every command on every key. Redis 6.2 and later take it
``7``      keys to read and keys to write, and grants apart from each other (selectors). Redis 7 and later take it
=========  =============================================================================================================

Passwords are written as their SHA-256; who reads the file cannot log in with what it says.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final, Literal

from penstock import keys
from penstock.access.grants import ALWAYS, PARTITIONS, USERS, Grant, of_user, of_worker
from penstock.access.state import ident
from penstock.contracts.base import check_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Dialect = Literal["6.2", "7"]

DEFAULT_OFF: Final = "user default off resetpass resetkeys resetchannels -@all"
PROBE: Final = "user probe on nopass resetkeys resetchannels -@all +ping"
"""Answers health checks with PING and nothing else, so it needs no password."""

_CONNECTION: Final[dict[Dialect, str]] = {
    "6.2": "+ping +select +echo +client|id +client|setname +command +cluster|slots",
    # By category, because SETINFO is only known from 7.2 on; tracking tells of other people's keys.
    "7": "+@connection -@dangerous -client|tracking +cluster|slots",
}
"""What a client says of itself; and to a cluster, to learn which node serves what."""


def file(
    passwords: Mapping[str, str], *, dialect: Dialect = "6.2", partitions: int = 1, probe: bool = False
) -> list[str]:
    """Make the lines of an ACL file: every party but the workers, and the default user switched off.

    Args:
        passwords: user -> password; a user without one is switched off until it is given one.
        dialect: what the server understands.
        partitions: of the installation.
        probe: add a user without a password that may say PING.
    """
    tag = "{0}" if partitions == 1 else "{*}"
    users = [_line(name, passwords.get(name), of_user(name), dialect, _Spelling(tag)) for name in USERS]
    return [DEFAULT_OFF, *([PROBE] if probe else []), *users]


def worker(
    user: str,
    pool: str,
    name: str,
    password: str | None,
    *,
    dialect: Dialect = "6.2",
    partitions: int = 1,
    creates: bool = False,
) -> str:
    """Make the line of a user for workers.

    Args:
        user: the user's name: ASCII without spaces.
        pool: name of their pool.
        name: of the worker; ``*`` stands for anything, so one user may serve several.
        password: None switches it off until it is given one.
        dialect: what the server understands.
        partitions: of the installation; the workers see that of their pool only.
        creates: they may create their pool and queues where these are missing.

    Raises:
        ValueError: a name is none.
    """
    if not re.fullmatch(r"[!-~]{1,200}", user):
        raise ValueError(f"{user!r} cannot be the name of a user: printable ASCII without spaces is needed")
    pool = check_name(pool)
    tag = f"{{{keys.partition_of_pool(pool, partitions)}}}"
    inbox = f"{_literal(pool)}/{'*'.join(map(_literal, check_name(name).split('*')))}"
    return _line(user, password, of_worker(creates=creates), dialect, _Spelling(tag, inbox))


def _literal(text: str) -> str:
    """Spell a text for a glob; a line of the file ends a word at a space, so any character stands for one."""
    return re.sub(r"\s", "?", re.sub(r"([*?\[\]\\^])", r"\\\1", text))


class _Spelling:
    """Spells the keys of families as globs.

    Args:
        tag: which partitions, braces included.
        inbox: which inboxes; all when empty.
    """

    def __init__(self, tag: str, inbox: str = "") -> None:
        self._tag = tag
        self._inbox = inbox

    def glob(self, family: str) -> str:
        if family == PARTITIONS:
            return keys.PARTITIONS_KEY
        return keys.address(family, self._tag, self._inbox if family == "inbox" and self._inbox else ident(family))


def _line(user: str, password: str | None, grants: list[Grant], dialect: Dialect, spelling: _Spelling) -> str:
    secret = f"on #{hashlib.sha256(password.encode()).hexdigest()}" if password else "off resetpass"
    always = f"-@all {_CONNECTION[dialect]} {_commands(ALWAYS)}"
    if dialect == "6.2":
        together = dict.fromkeys(command for grant in grants for command in grant.commands)
        families = (family for grant in grants for family in (*grant.writes, *grant.appends, *grant.reads))
        globs = " ".join(f"~{spelling.glob(family)}" for family in dict.fromkeys(families))
        return f"user {user} {secret} resetkeys resetchannels {globs} {always} {_commands(together)}"
    first, *others = grants
    selectors = "".join(f" ({_keys(grant, spelling)} -@all {_commands(grant.commands)})" for grant in others)
    root = f"{_keys(first, spelling)} {always} {_commands(first.commands)}"
    return f"user {user} {secret} resetkeys resetchannels {root}{selectors}"


def _commands(names: Iterable[str]) -> str:
    return " ".join(f"+{name}" for name in names)


def _keys(grant: Grant, spelling: _Spelling) -> str:
    sides = (("RW", grant.writes), ("W", grant.appends), ("R", grant.reads))
    return " ".join(f"%{side}~{spelling.glob(family)}" for side, families in sides for family in families)
