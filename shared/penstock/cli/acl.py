"""``penstock acl``: the ACL file of Redis, made from the map of streams and keys; one user for each party."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from penstock.cli.options import examples
from penstock.errors import Invalid
from penstock.settings import Settings

if TYPE_CHECKING:
    from penstock.access.acl import Dialect

app = typer.Typer(
    epilog=examples(
        "penstock acl --passwords secrets/ > users.acl",
        "penstock acl worker --pool etl --passwords secrets/ > worker.acl",
        "penstock acl --redis 7",
    ),
)


class Server(StrEnum):
    """What the server understands."""

    OLD = "6.2"
    NEW = "7"


RedisOption = Annotated[
    Server,
    typer.Option(
        "--redis",
        help="'6.2' is understood by every Redis since; '7' also tells reading from writing, and keeps grants apart.",
    ),
]
PasswordsOption = Annotated[
    Path | None,
    typer.Option(
        "--passwords",
        metavar="DIR",
        file_okay=False,
        help="DIR/USER/password holds the password of a user; missing ones are made. Without this option every user is "
        "switched off until somebody gives it a password.",
        show_default=False,
    ),
]
DEFAULT_USER: Final = "worker"


@app.callback(invoke_without_command=True)
def acl(
    ctx: typer.Context,
    redis: RedisOption = Server.OLD,
    passwords: PasswordsOption = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Add a user 'probe' that needs no password and may only say PING.")
    ] = False,
) -> None:
    """Print a Redis ACL file: one user for each service, client, consumer and operator; the default user is switched off.

    It is made from the map of streams and keys and needs no Redis; PENSTOCK_PARTITIONS counts. Passwords are printed as
    hashes only. Workers get users of their own, whose lines belong into the same file: `penstock acl worker`. A party logs
    in as PENSTOCK_REDIS_URL=redis://client@host:6379/0 with PENSTOCK_REDIS_PASSWORD_FILE=DIR/client/password.
    """
    if ctx.invoked_subcommand:
        if passwords or probe or redis is not Server.OLD:
            raise typer.BadParameter(f"options go behind '{ctx.invoked_subcommand}'")
        return
    from penstock.access.acl import file  # noqa: PLC0415 - making the catalogue takes a while
    from penstock.access.grants import USERS  # noqa: PLC0415 - the same
    from penstock.access.passwords import keep  # noqa: PLC0415 - the same

    known = {user: keep(passwords, user) for user in USERS} if passwords else {}
    partitions = Settings.read().partitions
    print(*file(known, dialect=_dialect(redis), partitions=partitions, probe=probe), sep="\n")


@app.command(
    "worker",
    epilog=examples(
        "penstock acl worker --pool etl --passwords secrets/ > worker.acl",
        "penstock acl worker --pool etl --name 'gpu-*' --user gpu-workers",
    ),
)
def worker(
    pool: Annotated[str, typer.Option("--pool", "-p", help="The pool of the workers.", show_default=False)],
    name: Annotated[str, typer.Option("--name", "-n", help="Name of the worker; * stands for anything.")] = "*",
    user: Annotated[str, typer.Option("--user", help="Name of the Redis user.")] = DEFAULT_USER,
    redis: RedisOption = Server.OLD,
    passwords: PasswordsOption = None,
    may_create: Annotated[
        bool, typer.Option("--may-create", help="They may create their pool and queues where these are missing.")
    ] = False,
) -> None:
    """Print the line of a Redis ACL file for workers of one pool.

    They may write heartbeats, reports and the output of runs, read and empty their own inboxes, and read the definitions
    of pools and queues.
    """
    from penstock.access.acl import worker as line  # noqa: PLC0415 - making the catalogue takes a while
    from penstock.access.passwords import keep  # noqa: PLC0415 - the same

    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}", user):
        raise Invalid(f"--user {user!r}: letters, digits, '.', '_' and '-', not more than 64, are needed")
    _refuse_taken(user)
    password = keep(passwords, user) if passwords else None
    partitions = Settings.read().partitions
    try:
        print(line(user, pool, name, password, dialect=_dialect(redis), partitions=partitions, creates=may_create))
    except ValueError as problem:
        raise Invalid(str(problem)) from problem


def _refuse_taken(user: str) -> None:
    from penstock.access.grants import USERS  # noqa: PLC0415 - making the catalogue takes a while

    if user in {*USERS, "default", "probe"}:
        raise Invalid(f"--user {user!r}: that user is not for workers", "choose another name")


def _dialect(server: Server) -> Dialect:
    return server.value
