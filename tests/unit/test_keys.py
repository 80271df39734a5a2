"""How keys are spelt, and which partition a pool or a run lives in."""

from __future__ import annotations

import re
import zlib
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock import keys, streams
from penstock.contracts.runs import new_run_id


@pytest.mark.parametrize("family", keys.FAMILIES)
def test_every_key_of_a_partition_lives_in_its_slot(family: str) -> None:
    takes_id = "{}" in keys.FAMILIES[family]
    assert keys.key(7, family, "x" if takes_id else "").startswith("penstock:{7}:")


def test_the_first_braces_of_a_key_are_the_partition_whatever_an_id_contains() -> None:
    assert re.findall(r"\{(.*?)\}", keys.key(3, "inbox", "{pool}/{w}"))[0] == "3"


def test_an_id_is_put_where_the_family_has_its_hole() -> None:
    assert keys.key(0, "run", "r1") == "penstock:{0}:run:r1"
    assert keys.key(0, "pool_queues", "p1") == "penstock:{0}:pool:p1:queues"
    assert keys.key(0, "events") == "penstock:{0}:events"


def test_an_unknown_family_is_an_error() -> None:
    with pytest.raises(KeyError):
        keys.key(0, "pol", "x")


def test_a_missing_id_and_an_id_too_many_are_errors() -> None:
    with pytest.raises(ValueError, match="needs an id"):
        keys.key(0, "run")
    with pytest.raises(ValueError, match="takes no id"):
        keys.key(0, "events", "x")


def test_no_two_families_spell_the_same_key() -> None:
    spelt = [keys.key(0, family, "a" if "{}" in template else "") for family, template in keys.FAMILIES.items()]
    assert [key for key, count in Counter(spelt).items() if count > 1] == []


def test_every_stream_has_its_family_and_every_family_is_described() -> None:
    assert {stream.name for stream in streams.ALL} <= set(keys.FAMILIES)
    rows = r"^([a-z_]+) +(?:STREAM|HASH|LIST|STRING|SET|ZSET) "
    described = set(re.findall(rows, keys.__doc__ or "", re.MULTILINE))
    assert described == set(keys.FAMILIES) - {stream.name for stream in streams.ALL}


@given(name=st.text(min_size=1, max_size=50), partitions=st.integers(1, keys.MAX_PARTITIONS))
def test_a_pool_lives_in_one_of_the_partitions_and_always_in_the_same(name: str, partitions: int) -> None:
    partition = keys.partition_of_pool(name, partitions)
    assert 0 <= partition < partitions
    assert partition == zlib.crc32(name.encode()) % partitions


@pytest.mark.parametrize(("name", "partition"), [("etl", 8), ("größe", 9), ("123456789", 6)])
def test_the_partition_of_a_pool_is_fixed_for_all_time(name: str, partition: int) -> None:
    assert keys.partition_of_pool(name, 16) == partition


@given(partition=st.integers(0, 0xFFFF))
def test_a_run_id_carries_its_partition(partition: int) -> None:
    assert keys.partition_of_run(new_run_id(partition)) == partition


@pytest.mark.parametrize(
    "run_id",
    [
        "",
        "x",
        "0198c0de-0000-7000-8000-00000000000",
        "0198c0de-0000-4000-8000-000000000000",
        "0198C0DE-0000-7000-8000-000000000000",
        "0198c0de00007000800000000000000000",
        "0198c0de-0000-7000-8000-000000000000\n",
    ],
)
def test_what_is_no_run_id_is_refused(run_id: str) -> None:
    with pytest.raises(ValueError, match="is not a run id"):
        keys.partition_of_run(run_id)


def test_workers_of_two_pools_may_share_a_name() -> None:
    assert keys.worker_ident("p1", "w") != keys.worker_ident("p2", "w")
