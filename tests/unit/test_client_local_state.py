from __future__ import annotations

import os
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from penstock.client.local_state import (
    HOME_VARIABLE,
    REDIS_URL_VARIABLE,
    clear_state,
    local_redis_url,
    read_settings,
    read_state,
    state_file,
    write_state,
)
from penstock.errors import Unavailable
from penstock.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    monkeypatch.delenv(REDIS_URL_VARIABLE, raising=False)
    return tmp_path / "home"


def dead_pid() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_what_is_written_is_read_back_with_the_writers_pid() -> None:
    write_state({"redis_url": "redis://127.0.0.1:7777/0", "services": {"dispatcher": {}}})

    assert read_state() == {"pid": os.getpid(), "redis_url": "redis://127.0.0.1:7777/0", "services": {"dispatcher": {}}}
    assert local_redis_url() == "redis://127.0.0.1:7777/0"


def test_only_its_owner_may_read_it(home: Path) -> None:
    write_state({"redis_url": "redis://:secret@127.0.0.1/0"})

    assert stat.S_IMODE(state_file().stat().st_mode) == 0o600
    assert [file.name for file in home.iterdir()] == ["up.json"]


def test_the_state_of_a_dead_supervisor_does_not_count() -> None:
    write_state({"redis_url": "redis://127.0.0.1:7777/0", "pid": dead_pid()})

    assert read_state() is None
    assert local_redis_url() is None


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"pid": "x"}', '{"pid": -1}'])
def test_an_unreadable_state_does_not_count(home: Path, content: str) -> None:
    home.mkdir()
    state_file().write_text(content)

    assert read_state() is None


def test_clearing_removes_it_and_may_be_repeated() -> None:
    write_state({"redis_url": "redis://127.0.0.1:7777/0"})

    clear_state()
    clear_state()

    assert read_state() is None


def test_a_party_uses_the_running_up_only_when_it_was_given_no_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    write_state({"redis_url": "redis://127.0.0.1:7777/0"})
    assert read_settings(Settings).redis_url == "redis://127.0.0.1:7777/0"

    monkeypatch.setenv(REDIS_URL_VARIABLE, "redis://10.0.0.7:6379/0")
    assert read_settings(Settings).redis_url == "redis://10.0.0.7:6379/0"


def test_a_home_whose_up_does_not_run_is_not_replaced_by_whatever_answers_at_the_default_address(home: Path) -> None:
    with pytest.raises(Unavailable, match="no `penstock up` runs with its home in") as caught:
        read_settings(Settings)
    assert str(home) in str(caught.value)


def test_without_any_of_them_the_default_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(HOME_VARIABLE)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read_settings(Settings).redis_url == "redis://127.0.0.1:6379/0"
