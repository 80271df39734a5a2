"""The list of safeguards that can be taken out fits the product: a mutation whose text has moved on would prove nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from penstock import lua
from tests.system.chaos.mutation import ROOT, VARIABLE, Rotten
from tests.system.chaos.mutations import MIXES, MUTATIONS

if TYPE_CHECKING:
    from tests.system.chaos.mutation import Mutation

EACH = [pytest.param(mutation, id=name) for name, mutation in MUTATIONS.items()]
SCRIPTS = [pytest.param(one, id=name) for name, one in MUTATIONS.items() if one.file.endswith(".lua")]
READ = """
from tests.system.chaos import mutation
mutation.install()
from penstock import lua
from penstock.bus import reclaim
print(lua.load("services.dispatcher", "claim_runs").text, lua.load("services.dispatcher", "report_runs").text)
print(reclaim.Reclaimer.reclaim.__code__.co_code.hex())
"""


def loaded(name: str) -> subprocess.CompletedProcess[str]:
    """What a process of its own loads with this mutation in its environment."""
    environment = {**os.environ, VARIABLE: name}
    return subprocess.run(
        [sys.executable, "-c", READ], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("mutation", EACH)
def test_a_mutation_fits_the_product_as_it_is_now(mutation: Mutation) -> None:
    assert mutation.apply(mutation.source) != mutation.source
    assert mutation.place.startswith(mutation.file + ":")
    assert mutation.promises <= {1, 2, 3, 4, 5}
    assert mutation.mix in MIXES.values()


@pytest.mark.parametrize("mutation", SCRIPTS)
def test_a_changed_script_still_agrees_with_its_header(mutation: Mutation) -> None:
    name = mutation.file.rpartition("/")[2].removesuffix(".lua")
    changed = mutation.apply(mutation.source)
    lua._check_body(lua.parse_header(name, changed), changed)


def test_a_text_that_is_not_there_exactly_once_is_refused() -> None:
    mutation = MUTATIONS["pool-limit"]

    with pytest.raises(Rotten, match="0 times, not once"):
        replace(mutation, find="no such text").apply(mutation.source)
    with pytest.raises(Rotten, match="times, not once"):
        replace(mutation, find="local ").apply(mutation.source)


def test_a_process_loads_one_script_changed_and_all_others_as_they_are() -> None:
    without, changed = loaded(""), loaded("pool-limit")

    assert without.returncode == changed.returncode == 0, changed.stderr
    assert changed.stdout == without.stdout.replace("if pool_limit then room", "if false then room")
    assert changed.stdout != without.stdout


def test_a_process_loads_a_module_changed_whatever_is_in_the_cache() -> None:
    without, changed = loaded(""), loaded("reclaim")

    assert without.returncode == changed.returncode == 0, changed.stderr
    assert changed.stdout != without.stdout
