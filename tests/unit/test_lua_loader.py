"""A header that lies is refused before Redis ever sees the script."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from penstock import keys, lua
from penstock.errors import BadScript

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis

HEADER = """-- move_run: Move a run.
--
-- KEYS      events       STREAM  the partition's events
-- ARGV      run_id       which one
-- ARGV      ...rest      more of them
-- USES      run pools
-- INCLUDES  clock
-- CONSTANTS EVENTS_MAX_LENGTH
-- RETURNS   nothing
-- COST      O(1)
-- RULE      none
"""
BODY = "redis.call('HSET', key_run(run_id), key_pools(), EVENTS_MAX_LENGTH, ARGV[rest_from]) return now_ms\n"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An importable package with a lua folder."""
    (tmp_path / "scripted" / "lua").mkdir(parents=True)
    (tmp_path / "scripted" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "scripted", raising=False)
    return tmp_path / "scripted" / "lua"


def load(package: Path, source: str) -> lua.Script:
    (package / "move_run.lua").write_text(source, encoding="utf-8")
    return lua.Script("scripted", "move_run")


def test_a_header_that_tells_the_truth_is_read(package: Path) -> None:
    header = load(package, HEADER + BODY).header
    assert header == lua.Header(
        name="move_run",
        keys=("events",),
        args=("run_id",),
        rest="rest",
        uses=("run", "pools"),
        includes=("clock",),
        constants=("EVENTS_MAX_LENGTH",),
        rule="none",
    )


def without(line: str) -> str:
    found = [text for text in HEADER.splitlines(keepends=True) if not text.startswith(f"-- {line}")]
    return "".join(found)


LIES = {
    "empty file": ("", "", "first line"),
    "no header": ("", "return 1\n", "first line"),
    "another name": (HEADER.replace("move_run", "mov_run"), BODY, "first line"),
    "no sentence": (HEADER.replace("Move a run.", "Move a run"), BODY, "first line"),
    "no RETURNS": (without("RETURNS"), BODY, "no RETURNS"),
    "no COST": (without("COST"), BODY, "no COST"),
    "no RULE": (without("RULE"), BODY, "no RULE"),
    "no KEYS": (without("KEYS"), BODY, "at least one line"),
    "unknown family in KEYS": (HEADER.replace("events  ", "evnts   "), BODY, "no key family 'evnts'"),
    "a family that takes an id in KEYS": (HEADER.replace("events  ", "inbox   "), BODY, "takes an id"),
    "unknown family in USES": (HEADER.replace("run pools", "run pols"), BODY, "no key family 'pols'"),
    "USES what it does not": (
        HEADER.replace("run pools", "run pools pool"),
        BODY,
        "USES and the code disagree on pool",
    ),
    "does not say what it uses": (HEADER.replace("run pools", "run"), BODY, "USES and the code disagree on pools"),
    "USES only in a comment": (HEADER, BODY.replace("key_pools()", "1 --[[key_pools()]]"), "disagree"),
    "ARGV never used": (HEADER, BODY.replace("key_run(run_id)", "key_run(1)"), "ARGV run_id is never used"),
    "rest never used": (HEADER, BODY.replace("ARGV[rest_from]", "1"), "ARGV ...rest is never used"),
    "rest in the middle": (
        HEADER.replace("-- USES", "-- ARGV      late         x\n-- USES"),
        BODY,
        "only the last ARGV line",
    ),
    "two rests": (HEADER.replace("-- USES", "-- ARGV      ...others    x\n-- USES"), BODY, "only the last ARGV line"),
    "the same ARGV twice": (
        HEADER.replace("-- ARGV      ...", "-- ARGV      run_id x\n-- ARGV      ..."),
        BODY,
        "run_id twice",
    ),
    "an ARGV named as a key": (
        HEADER.replace("run_id  ", "events  "),
        BODY.replace("run_id", "events"),
        "events twice",
    ),
    "the same family twice": (HEADER.replace("run pools", "run pools run"), BODY, "USES say run twice"),
    "the same include twice": (HEADER.replace("clock", "clock clock"), BODY, "INCLUDES say clock twice"),
    "KEYS in the code": (HEADER, BODY + "-- x\nlocal a = KEYS[1]\n", "not KEYS"),
    "ARGV in the code without a rest": (without("ARGV      ..."), BODY, "not ARGV"),
    "unknown constant": (HEADER.replace("EVENTS_MAX_LENGTH", "EVENTS_MAX"), BODY, "no constant 'EVENTS_MAX'"),
    "constant never used": (HEADER, BODY.replace("EVENTS_MAX_LENGTH", "1"), "CONSTANTS and the code disagree"),
    "constant not declared": (without("CONSTANTS"), BODY, "CONSTANTS and the code disagree on EVENTS_MAX_LENGTH"),
    "include that does not exist": (HEADER.replace("clock", "clok"), BODY, "has no includes/clok.lua"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_refused(package: Path, lie: str) -> None:
    header, body, says = LIES[lie]
    with pytest.raises(BadScript, match=says.replace("[", r"\[").replace("(", r"\(")):
        load(package, header + body)


def test_a_script_that_does_not_exist_is_named(package: Path) -> None:
    assert package.exists()
    with pytest.raises(BadScript, match=r"scripted has no lua/move_rum\.lua"):
        lua.Script("scripted", "move_rum")


def test_an_include_takes_no_keys_and_no_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    source = HEADER.replace("move_run", "odd") + BODY
    monkeypatch.setattr(lua, "_read", lambda *_: source)
    with pytest.raises(BadScript, match="takes no KEYS and no ARGV"):
        lua.include("odd")


def test_a_call_names_exactly_the_arguments_of_the_header(package: Path) -> None:
    script = load(package, HEADER + BODY)
    for arguments in ({}, {"run": "x"}, {"run_id": "x", "more": 1}):
        with pytest.raises(BadScript, match="call and header disagree"):
            script.bind(0, **arguments)


def test_further_arguments_need_a_header_that_takes_them(package: Path) -> None:
    script = load(package, without("ARGV      ...") + BODY.replace(", ARGV[rest_from]", ""))
    with pytest.raises(BadScript, match="takes no further arguments"):
        script.bind(0, run_id="x", rest=["y"])


def test_a_call_carries_its_keys_and_values_in_the_order_of_the_header(package: Path) -> None:
    call = load(package, HEADER + BODY).bind(3, run_id=None, rest=[True, False, 1.5, "ä", b"\xff", None])
    assert call.numkeys == 1
    assert call.arguments == (keys.key(3, "events"), "", 1, 0, 1.5, "ä", b"\xff", "")


def test_a_changed_include_changes_the_script(package: Path) -> None:
    with_clock = load(package, HEADER + BODY)
    assert "now_iso" in with_clock.text
    without_clock = load(package, without("INCLUDES") + BODY.replace("now_ms", "1"))
    assert "now_iso" not in without_clock.text
    assert with_clock.sha != without_clock.sha


def test_a_script_is_loaded_once_a_process() -> None:
    assert lua.load("penstock.bus", "forget_consumer") is lua.load("penstock.bus", "forget_consumer")


class Refuser:
    """A client that must not be asked."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)


def test_no_calls_are_no_round_trip() -> None:
    client: Any = Refuser()
    nothing: Redis = client
    assert asyncio.run(lua.run_all(nothing, [])) == []
