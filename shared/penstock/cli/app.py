"""The ``penstock`` command: its groups, its root options, and how it ends."""

from __future__ import annotations

import os
import sys
import traceback
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperGroup

from penstock import __version__
from penstock.cli import (
    acl,
    asyncapi,
    dead,
    deployment,
    errors,
    events,
    flow_run,
    template,
    work_pool,
    work_queue,
    worker,
)
from penstock.cli.options import examples
from penstock.cli.surplus import Unquoted
from penstock.client.local_state import REDIS_URL_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable

EPILOG: Final = """\b
First steps:
  penstock demo                                            everything on one machine, with a show
  penstock up                                              everything on one machine, for development
  penstock work-pool create etl
  penstock worker start --pool etl
  penstock flow-run submit --pool etl --entrypoint flows.py:load --param day=1 --wait
  penstock events tail --since 10m

\b
Exit codes:
  0    done
  1    refused: not found, conflict, invalid, reserved; with --wait: a run did not complete
  2    usage: an option, an argument or a PENSTOCK_ variable is wrong
  3    unavailable: Redis or a service does not answer; trying again may help
  70   a bug in Penstock
  130  interrupted (Ctrl-C)
"""


class Root(TyperGroup):
    """Turns what a command raises into one line of error and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except errors.EXPECTED as problem:
            if isinstance(problem, BrokenPipeError):
                raise
            raise typer.Exit(errors.show(problem)) from problem


app = typer.Typer(
    name="penstock",
    cls=Root,
    help="Penstock: work pools and workers on Redis Streams.",
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _print_version(value: bool) -> None:
    if value:
        print(__version__)
        raise typer.Exit


@app.callback()
def root(
    ctx: typer.Context,
    redis_url: Annotated[
        str | None,
        typer.Option(
            "--redis-url",
            metavar="URL",
            help=f"Where Redis is; overrides {REDIS_URL_VARIABLE}. Without both, the running `penstock up` is used.",
            show_default=False,
        ),
    ] = None,
    version: Annotated[  # noqa: ARG001 - its callback prints it
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Penstock: work pools and workers on Redis Streams."""
    if redis_url is not None:
        _set_for_this_command(ctx, redis_url)


def _set_for_this_command(ctx: typer.Context, redis_url: str) -> None:
    """Say it through the environment: settings are read there, by the processes a command starts too."""
    before = os.environ.get(REDIS_URL_VARIABLE)

    def restore() -> None:
        if before is None:
            os.environ.pop(REDIS_URL_VARIABLE, None)
        else:
            os.environ[REDIS_URL_VARIABLE] = before

    os.environ[REDIS_URL_VARIABLE] = redis_url
    ctx.call_on_close(restore)


def _register() -> None:
    for name, group in (
        ("work-pool", work_pool.app),
        ("work-queue", work_queue.app),
        ("worker", worker.app),
        ("deployment", deployment.app),
        ("flow-run", flow_run.app),
        ("template", template.app),
        ("events", events.app),
        ("dead", dead.app),
        ("acl", acl.app),
    ):
        app.add_typer(group, name=name)
    for command, lines in _local_commands():
        app.command(epilog=examples(*lines), cls=Unquoted)(command)
    app.command(epilog=asyncapi.EPILOG)(asyncapi.asyncapi)


def _local_commands() -> list[tuple[Callable[..., None], list[str]]]:
    from penstock.cli import deploy as deploying  # noqa: PLC0415
    from penstock.cli.demo import demo  # noqa: PLC0415
    from penstock.cli.health import health  # noqa: PLC0415
    from penstock.cli.up import up  # noqa: PLC0415

    return [
        (up, ["penstock up", "penstock up --pool etl --workers 2 --dispatchers 3", "penstock up --no-worker"]),
        (demo, ["penstock demo", "penstock demo --runs 500 --keep"]),
        (deploying.deploy, deploying.EXAMPLES),
        (health, ["penstock health", "penstock health --service dispatcher --live", "penstock health -o json"]),
    ]


_register()


def _is_text(word: str) -> bool:
    """Say whether an argument was valid UTF-8; Python keeps other bytes as lone surrogates, which nothing else can take."""
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def run() -> None:
    """Run the command line; does not return."""
    for number, word in enumerate(sys.argv[1:], 1):
        if not _is_text(word):
            errors.say(f"Error: argument {number} is not UTF-8: {word!a}")
            sys.exit(errors.USAGE)
    try:
        app()
    except Exception as problem:  # noqa: BLE001 - the last resort: a person must not meet a traceback
        if os.environ.get("PENSTOCK_LOG_LEVEL") == "debug":
            traceback.print_exc()
        sys.exit(errors.show(problem))
