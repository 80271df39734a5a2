"""What deleting a pool leaves behind, in words."""

from __future__ import annotations

from typing import Any

from penstock.cli.deployment_words import left_behind
from penstock.contracts.deployments import Deployment

GONE = "Its finished runs cannot be listed or inspected any more."


def named(name: str) -> Deployment:
    fields: dict[str, Any] = {"name": name}
    return Deployment.model_construct(**fields)


def test_finished_runs_cannot_be_found_without_their_pool() -> None:
    assert left_behind("etl", []) == [GONE]


def test_deployments_that_point_to_it_are_counted_and_named() -> None:
    one, many = [named("a/b")], [named(f"a/{number}") for number in range(7)]

    told = "1 deployment points to it ('a/b'): they make no runs until there is a work pool 'etl' again or"
    assert left_behind("etl", one)[1].startswith(told)
    told = "7 deployments point to it ('a/0', 'a/1', 'a/2', 'a/3', 'a/4' and 2 more): they make no runs"
    assert left_behind("etl", many)[1].startswith(told)
