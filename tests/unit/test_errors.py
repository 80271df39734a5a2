"""The error tree on the wire: a refusal keeps its kind from one process to another."""

from __future__ import annotations

import pytest

from penstock import errors
from penstock.contracts.replies import ReplyError


def kinds(above: type[errors.PenstockError]) -> list[type[errors.PenstockError]]:
    return [above, *(kind for below in above.__subclasses__() for kind in kinds(below))]


def test_every_kind_of_refusal_has_a_code_of_its_own_and_can_be_rebuilt_from_it() -> None:
    refusals = [kind for kind in kinds(errors.Refused) if kind.__module__ == errors.__name__]
    assert set(errors.REFUSALS.values()) == set(refusals)
    assert {error.code: error for error in errors.REFUSALS.values()} == errors.REFUSALS


@pytest.mark.parametrize("code", sorted(errors.REFUSALS))
def test_a_refusal_travels(code: str) -> None:
    sent = errors.REFUSALS[code]("no pool 'etl'", "penstock work-pool ls")
    on_the_wire = ReplyError(code=sent.code, message=sent.message, hint=sent.hint)
    received = errors.refusal(on_the_wire.code, on_the_wire.message, on_the_wire.hint)
    assert type(received) is type(sent)
    assert (str(received), received.hint) == ("no pool 'etl'", "penstock work-pool ls")


def test_the_tree_in_the_documentation_is_the_tree() -> None:
    named = {line.split("-- ")[1].split()[0] for line in (errors.__doc__ or "").splitlines() if "-- " in line}
    assert named == {kind.__name__ for kind in kinds(errors.PenstockError)[1:] if kind.__module__ == errors.__name__}
