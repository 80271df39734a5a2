"""Tables for people: nothing that is pasted is broken, and nothing is explained that is not there."""

from __future__ import annotations

import json

import pytest

from penstock.cli.errors import say
from penstock.cli.events import describe
from penstock.cli.following import state_line
from penstock.cli.output import print_json, print_json_line, print_table, visible
from penstock.contracts.events import Event
from penstock.contracts.runs import PastState

ID = "0198c0de-0000-7000-8000-000000000000"
COLUMNS = ["ID", "Name", "Queue", "Rule"]
ROW = [ID, "brave heron", "default", "FREQ=MONTHLY;BYDAY=-1FR"]
FITS = 90
"""Columns of the whole table."""


def heads(printed: str) -> list[str]:
    return [cell.strip() for cell in printed.splitlines()[2].strip("┃").split("┃")]


@pytest.mark.parametrize("width", [30, 60, 80, 200])
def test_ids_and_what_has_to_stay_whole_are_never_broken(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    print_table("T", COLUMNS, [ROW], optional=["Queue"], whole=["Rule"])

    printed = capsys.readouterr().out
    assert ID in printed
    assert "FREQ=MONTHLY;BYDAY=-1FR" in printed
    assert "…" not in printed


@pytest.mark.parametrize(
    ("width", "shown"),
    [(FITS, COLUMNS), (FITS - 1, ["ID", "Name", "Queue"]), (60, ["ID", "Name"]), (30, ["ID", "Name"])],
)
def test_columns_are_left_out_in_their_order_only_until_the_rest_fits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int, shown: list[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    print_table("T", COLUMNS, [ROW], optional=["Rule", "Queue"])

    printed = capsys.readouterr().out
    assert heads(printed) == shown
    assert max(len(line) for line in printed.splitlines()) <= max(width, 55)


def test_a_mark_is_explained_where_it_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("low (**)", "low"):
        print_table("T", ["Name", "ID"], [[name, ID]], "(**) denotes a paused queue")

        assert ("denotes a paused queue" in capsys.readouterr().out) == ("(**)" in name)


def test_instead_of_an_empty_table_something_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("T", COLUMNS, [], empty="Nothing matches")
    assert capsys.readouterr().out == "Nothing matches\n"

    print_table("T", COLUMNS, [])
    assert heads(capsys.readouterr().out) == COLUMNS


def test_an_integer_of_more_than_64_bits_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"payload": {"size": 10**30, "what": "größe"}}

    print_json_line(value)
    line = capsys.readouterr().out
    assert (line.count("\n"), json.loads(line)) == (1, value)

    print_json(value)
    assert json.loads(capsys.readouterr().out) == value


def test_control_characters_are_shown_and_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    evil = "a\x1b]0;title\x07\rb\x9b31m\u202ecod.exe"
    shown = "a\\x1b]0;title\\x07\\rb\\x9b31m\\u202ecod.exe"
    assert visible(evil) == shown
    print_table("", ["Name"], [[evil]])
    say(evil)
    printed = capsys.readouterr()
    assert shown in printed.out
    assert printed.err == f"{shown}\n"
    told = Event(
        id="e", occurred="", event="x", resource={"prefect.resource.name": evil}, payload={"reason": evil}, seq=1
    )
    assert describe(told).count(shown) == 2
    assert state_line(PastState(state="FAILED", name="Failed", at_ms=0, message=evil)).endswith(shown)


@pytest.mark.parametrize("text", ["größe", "数据", "two\nlines", "family \U0001f468\u200d\U0001f469", "a\u00a0b"])
def test_what_people_write_is_printed_as_it_is(text: str) -> None:
    assert visible(text) == text
