from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from penstock.errors import Conflict, Invalid, NotFound
from penstock.worker.join import join_pool


class FakePenstock:
    """The part of the SDK that joining uses, over a dictionary."""

    def __init__(self, **pools: str) -> None:
        self.pools = pools
        self.queues = ["default"]
        self.created: list[tuple[str, str, bool]] = []

    async def read_pool(self, name: str) -> Any:
        if name not in self.pools:
            raise NotFound(f"no pool {name!r}", "did you mean 'etl'?")
        return SimpleNamespace(name=name, type=self.pools[name])

    async def create_pool(self, name: str, *, worker_type: str, if_missing: bool) -> Any:
        self.created.append((name, worker_type, if_missing))
        # Somebody else may have been faster.
        self.pools.setdefault(name, worker_type)
        return await self.read_pool(name)

    async def read_queues(self, _: str) -> list[Any]:
        return [SimpleNamespace(name=name) for name in self.queues]

    async def create_queue(self, pool: str, name: str, *, if_missing: bool) -> None:
        self.created.append((pool, name, if_missing))


async def join(penstock: Any, *arguments: Any) -> tuple[str, list[str]]:
    said: list[str] = []
    return await join_pool(penstock, *arguments, say=said.append), said


async def test_the_type_is_discovered_from_the_pool() -> None:
    said = ["Discovered worker type 'process' for work pool 'etl'."]
    assert await join(FakePenstock(etl="process"), "etl") == ("process", said)


async def test_a_missing_pool_is_created_when_the_type_is_given() -> None:
    penstock = FakePenstock()
    assert await join(penstock, "etl", "process") == ("process", ["Worker pool 'etl' created."])
    assert penstock.created == [("etl", "process", True)]


async def test_an_existing_pool_of_the_same_type_is_joined_silently() -> None:
    penstock = FakePenstock(etl="process")
    assert await join(penstock, "etl", "process") == ("process", [])
    assert penstock.created == []


async def test_a_missing_pool_without_a_type_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(NotFound, match="Work pool 'elt' does not exist") as caught:
        await join(FakePenstock(), "elt")
    assert caught.value.hint == (
        "`penstock work-pool create elt --type process`, or give the worker --type. did you mean 'etl'?"
    )


async def test_a_pool_of_another_type_is_a_conflict() -> None:
    with pytest.raises(Conflict, match="takes workers of type 'docker', not 'process'"):
        await join(FakePenstock(etl="docker"), "etl", "process")


async def test_missing_queues_are_created_once() -> None:
    penstock = FakePenstock(etl="process")
    await join(penstock, "etl", None, ["default", "high", "high"])
    assert penstock.created == [("etl", "high", True)]


@pytest.mark.parametrize(("pool", "queues"), [("a/b", []), (" ", []), ("etl", ["a%b"])])
async def test_bad_names_are_refused_before_anything_is_asked(pool: str, queues: list[str]) -> None:
    with pytest.raises(Invalid):
        await join(FakePenstock(etl="process"), pool, None, queues)
