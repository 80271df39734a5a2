"""Whether a figure is flat is judged by medians and a robust fit; keys are counted by the family they belong to."""

from __future__ import annotations

import random

import pytest

from penstock import keys
from tests.benchmarks.soak_samples import Series, family_of, trend


def series(*values: float, step: int = 10_000) -> Series:
    made = Series()
    for index, value in enumerate(values):
        made.add(index * step, value)
    return made


def test_noise_and_a_few_outliers_are_no_growth() -> None:
    chance = random.Random(3)
    values = [100 + chance.gauss(0, 1) for _ in range(200)]
    for index in (150, 160, 170, 199):
        values[index] = 300
    found = trend(series(*values), 0)
    assert found
    assert abs(found.growth) < 0.01
    assert abs(found.slope) < 0.1


def test_a_steady_leak_is_found_with_its_size() -> None:
    found = trend(series(*(100 + index for index in range(100))), 0)
    assert found
    assert found.slope == pytest.approx(10, rel=0.01)
    assert found.growth == pytest.approx((187 - 137) / 137, rel=0.02)


def test_what_came_before_everything_was_full_does_not_count() -> None:
    found = trend(series(*(index * 10 for index in range(50)), *([500.0] * 50)), 500_000)
    assert found
    assert (found.growth, found.slope) == (0, 0)


def test_too_few_points_say_nothing() -> None:
    assert trend(series(1, 2, 3), 0) is None
    assert trend(series(*([1.0] * 100)), 980_000) is None


@pytest.mark.parametrize("family", keys.FAMILIES)
def test_every_key_is_counted_in_its_family(family: str) -> None:
    takes_id = "{}" in keys.FAMILIES[family]
    for ident in ("0e9f", "etl/w1", "0e9f/night-shift"):
        assert family_of(keys.key(0, family, ident if takes_id else "")) == family


def test_a_key_of_no_family_is_counted_under_its_own_name() -> None:
    assert family_of(keys.PARTITIONS_KEY) == keys.PARTITIONS_KEY
    assert family_of("penstock:{0}:mystery:1") == "penstock:{0}:mystery:1"
