"""Completion as a shell asks for it: processes of their own, names out of a real Redis."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from penstock import keys
from tests.definitions import define_pool

if TYPE_CHECKING:
    from redis.asyncio import Redis

NOWHERE = "redis://127.0.0.1:1/0"


def environment(redis_url: str, home: Path, **more: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PENSTOCK_", "COMP_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return inherited | {"PENSTOCK_REDIS_URL": redis_url, "HOME": str(home), "PATH": path, **more}


def complete(redis_url: str, home: Path, typed: str, **variables: str) -> list[str]:
    """What bash offers at the end of a line."""
    asked = {"_PENSTOCK_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    done = subprocess.run(
        [str(Path(sys.executable).with_name("penstock"))],
        env=environment(redis_url, home, **asked, **variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout.split()


def in_bash(redis_url: str, home: Path, script: str) -> Any:
    # The last command keeps bash from being replaced by the one before it: the shell is recognised by its process.
    return subprocess.run(
        ["bash", "--norc", "-c", f"{script}\ntrue"],
        env=environment(redis_url, home),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("penstock work-p", ["work-pool"]),
        ("penstock work-pool set", ["set-concurrency-limit"]),
        ("penstock work-queue re", ["resume", "read-runs"]),
        ("penstock worker start --install", ["--install-policy"]),
        ("penstock worker start --install-policy if", ["if-not-present"]),
    ],
)
def test_commands_options_and_choices_are_completed(tmp_path: Path, typed: str, offered: list[str]) -> None:
    assert sorted(complete(NOWHERE, tmp_path, typed)) == sorted(offered)


async def test_names_of_pools_queues_and_workers_are_completed(client: Redis, redis_url: str, tmp_path: Path) -> None:
    etl = await define_pool(client, "etl", queues={"critical": {}, "crucial": {}})
    await define_pool(client, "etl-2", queues={"other": {}})
    await define_pool(client, "ml")
    await client.sadd(keys.key(0, "pool_workers", etl.id), "w1")
    await client.hset(keys.key(0, "worker", keys.worker_ident(etl.id, "w1")), "name", "w1")

    def offers(typed: str, **variables: str) -> list[str]:
        return complete(redis_url, tmp_path, typed, **variables)

    assert offers("penstock work-pool inspect et") == ["etl", "etl-2"]
    assert offers("penstock worker start --pool m") == ["ml"]
    assert offers("penstock work-queue preview --pool etl cr") == ["critical", "crucial"]
    assert offers("penstock worker start --pool etl -q de") == ["default"]
    assert offers("penstock worker inspect --pool etl w") == ["w1"]
    assert offers("penstock work-queue pause o", PENSTOCK_DEFAULT_POOL="etl-2") == ["other"]
    # Of several pools none is meant; a pool that does not exist has no queues.
    assert offers("penstock work-queue pause cr") == []
    assert offers("penstock work-queue pause --pool gone cr") == []


async def test_a_name_that_needs_another_shell_word_is_offered_whole(
    client: Redis, redis_url: str, tmp_path: Path
) -> None:
    await define_pool(client, "größe-数据")

    assert complete(redis_url, tmp_path, "penstock work-pool pause gr") == ["größe-数据"]


@pytest.mark.parametrize("variables", [{}, {"PENSTOCK_PARTITIONS": "many"}, {"PENSTOCK_REDIS_ULR": "x"}])
def test_without_redis_and_with_wrong_variables_nothing_is_offered_nor_said(
    tmp_path: Path, variables: dict[str, str]
) -> None:
    assert complete(NOWHERE, tmp_path, "penstock work-pool inspect ", **variables) == []


def test_a_redis_that_does_not_answer_is_not_waited_for(tmp_path: Path) -> None:
    import socket  # noqa: PLC0415 - a server that accepts and says nothing

    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        started = time.monotonic()
        assert complete(NOWHERE, tmp_path, "penstock work-pool inspect ") == []
        usual = time.monotonic() - started
        started = time.monotonic()
        assert complete(url, tmp_path, "penstock work-pool inspect ") == []
    assert time.monotonic() - started < usual + 2


def test_what_show_completion_prints_completes_in_bash(tmp_path: Path) -> None:
    script = """
        eval "$(penstock --show-completion)"
        complete -p penstock
        COMP_WORDS=(penstock work-queue upd) COMP_CWORD=2
        _penstock_completion penstock
        echo "offered: ${COMPREPLY[*]}"
    """
    registered, offered = in_bash(NOWHERE, tmp_path, script).stdout.splitlines()

    assert registered == "complete -o default -F _penstock_completion penstock"
    assert offered == "offered: update"


def test_install_completion_makes_new_shells_complete(tmp_path: Path) -> None:
    printed = in_bash(NOWHERE, tmp_path, "penstock --install-completion").stdout

    assert "bash completion installed" in printed
    script = f"source {tmp_path}/.bashrc; complete -p penstock"
    assert in_bash(NOWHERE, tmp_path, script).stdout == "complete -o default -F _penstock_completion penstock\n"
