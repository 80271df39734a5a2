"""The image installs pinned dependencies only; a dependency without its pin would end the build."""

from __future__ import annotations

import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
IMAGE = {"python_version": "3.13", "python_full_version": "3.13.0", "sys_platform": "linux"}


def pins() -> dict[str, str]:
    lines = (ROOT / "services" / "constraints.txt").read_text().splitlines()
    exact = (line.split("==") for line in lines if not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in exact}


def test_every_dependency_of_the_image_has_a_pin_that_fits() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [Requirement(text) for text in project["dependencies"]]
    pinned = pins()
    problems = [
        f"{one}: pinned {pinned.get(canonicalize_name(one.name))}"
        for one in wanted
        if (one.marker is None or one.marker.evaluate(IMAGE))
        and pinned.get(canonicalize_name(one.name), "") not in one.specifier
    ]
    assert problems == []


def test_pins_are_exact_and_name_no_package_index() -> None:
    lines = (ROOT / "services" / "constraints.txt").read_text().splitlines()
    assert all(line.count("==") == 1 and "://" not in line for line in lines if not line.startswith("#"))
