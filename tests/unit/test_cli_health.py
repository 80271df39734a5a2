"""``penstock health`` asks what belongs to the Redis it was given, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
import pytest
from typer.testing import CliRunner

from penstock.cli import health as health_module
from penstock.cli.app import app
from penstock.cli.probe import Report
from penstock.client.local_state import HOME_VARIABLE, REDIS_URL_VARIABLE, write_state

if TYPE_CHECKING:
    from pathlib import Path

OURS = "redis://127.0.0.1:7777/0"
OTHER = "redis://10.0.0.7:6379/0"
LOCAL_URL = "http://127.0.0.1:9001"


@pytest.fixture(autouse=True)
def _up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `penstock up` whose one service is ready; nothing else answers."""
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    monkeypatch.delenv(REDIS_URL_VARIABLE, raising=False)
    write_state({"redis_url": OURS, "services": {"dispatcher": {"health_url": LOCAL_URL}}})

    async def report_of(url: str) -> Report:
        return Report([], 3) if url.startswith(LOCAL_URL) else Report(["does not answer"])

    monkeypatch.setattr(health_module, "report_of", report_of)


def names(*arguments: str) -> tuple[int, list[str]]:
    """Exit code, and whom it asked."""
    done = CliRunner().invoke(app, [*arguments, "-o", "json"])
    return done.exit_code, [service["name"] for service in orjson.loads(done.stdout)["services"]]


def test_without_a_given_redis_the_running_up_is_asked() -> None:
    assert names("health") == (0, ["dispatcher"])


def test_an_up_on_the_given_redis_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(REDIS_URL_VARIABLE, OURS)
    assert names("health") == (0, ["dispatcher"])
    assert names("--redis-url", OURS, "health") == (0, ["dispatcher"])


def test_an_up_on_another_redis_than_the_given_one_is_not_taken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert names("--redis-url", OTHER, "health") == (1, ["service"])
    monkeypatch.setenv(REDIS_URL_VARIABLE, OTHER)
    assert names("health") == (1, ["service"])
    assert names("--redis-url", OURS, "health") == (0, ["dispatcher"]), "the option overrides the variable"


def test_dead_messages_are_counted_and_are_no_failure() -> None:
    done = CliRunner().invoke(app, ["health"])
    assert done.exit_code == 0
    assert "3 dead message(s); `penstock dead ls` shows them" in done.stdout
    assert orjson.loads(CliRunner().invoke(app, ["health", "-o", "json"]).stdout)["dead_letters"] == 3


def test_who_does_not_count_dead_messages_says_nothing_of_them() -> None:
    done = CliRunner().invoke(app, ["--redis-url", OTHER, "health"])
    assert "dead" not in done.stdout
    asked = CliRunner().invoke(app, ["--redis-url", OTHER, "health", "-o", "json"])
    assert orjson.loads(asked.stdout)["dead_letters"] is None
