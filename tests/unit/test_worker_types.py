from __future__ import annotations

import importlib.metadata
import sys
from typing import TYPE_CHECKING, Any

import pytest

from penstock.errors import Invalid, NotFound
from penstock.worker import types
from penstock.worker.process import ProcessType
from penstock.worker.types import ask, install, load_type

if TYPE_CHECKING:
    from pathlib import Path


class Installer:
    """Notes what it is asked to install; makes the type appear if told to."""

    def __init__(self, folder: Path | None = None) -> None:
        self.installed: list[str] = []
        self._folder = folder

    def __call__(self, package: str) -> None:
        self.installed.append(package)
        if self._folder:
            offer(self._folder)


def offer(folder: Path) -> None:
    """What pip leaves behind for a package that offers the type 'docker'."""
    about = folder / "penstock_docker-1.0.dist-info"
    about.mkdir(exist_ok=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: penstock-docker\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[penstock.worker_types]\ndocker = penstock_docker:DockerType\n")
    (folder / "penstock_docker.py").write_text("class DockerType:\n    pass\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "penstock_docker", raising=False)
    return tmp_path


def nobody(question: str) -> bool:
    pytest.fail(f"nobody should be asked: {question}")


@pytest.mark.parametrize("policy", types.INSTALL_POLICIES)
def test_process_comes_with_penstock_and_is_never_installed(policy: Any) -> None:
    installer = Installer()
    assert isinstance(load_type("process", policy, installer=installer, confirm=nobody), ProcessType)
    assert installer.installed == []


@pytest.mark.parametrize(
    ("policy", "present", "agrees", "installed"),
    [
        ("always", False, None, 1),
        ("always", True, None, 1),
        ("if-not-present", False, None, 1),
        ("if-not-present", True, None, 0),
        ("never", True, None, 0),
        ("prompt", True, None, 0),
        ("prompt", False, True, 1),
    ],
)
def test_the_policy_decides_what_is_installed(
    site: Path, policy: Any, present: bool, agrees: bool | None, installed: int
) -> None:
    if present:
        offer(site)
    installer = Installer(site)
    confirm = nobody if agrees is None else lambda _: agrees
    kind = load_type("docker", policy, installer=installer, confirm=confirm)
    assert type(kind).__name__ == "DockerType"
    assert installer.installed == ["penstock-docker"] * installed


@pytest.mark.parametrize("policy", ["never", "prompt"])
def test_a_missing_type_names_its_package_and_how_to_get_it(policy: Any) -> None:
    installer = Installer()
    with pytest.raises(NotFound) as caught:
        load_type("docker", policy, installer=installer, confirm=lambda _: False)
    assert "unknown worker type 'docker': the package 'penstock-docker' is not installed" in str(caught.value)
    assert (
        caught.value.hint == "known types: process; `pip install penstock-docker`, or --install-policy if-not-present"
    )
    assert installer.installed == []


def test_a_package_that_does_not_offer_the_type_is_said() -> None:
    with pytest.raises(NotFound, match="is not installed or does not offer it"):
        load_type("docker", "if-not-present", installer=Installer())


@pytest.mark.parametrize("name", ["Docker", "do cker", "-r", "docker;x", "../x", "docker==1", "doçker", ""])
def test_no_strange_name_reaches_an_installer(name: str) -> None:
    installer = Installer()
    with pytest.raises(Invalid, match="is no worker type"):
        load_type(name, "always", installer=installer)
    assert installer.installed == []


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(Invalid, match="unknown install policy 'sometimes'"):
        load_type("process", "sometimes")  # type: ignore[arg-type]


def test_without_a_terminal_the_answer_is_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", nobody)
    assert not ask("Install?")


def test_a_failed_installation_says_pip_s_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(NotFound, match="package 'penstock-docker' could not be installed: ") as caught:
        install("penstock-docker")
    assert "-m pip install --upgrade penstock-docker" in caught.value.hint


def test_types_of_other_packages_are_known(site: Path) -> None:
    offer(site)
    assert types.known_types() == ["docker", "process"]
    assert [entry.name for entry in importlib.metadata.entry_points(group=types.GROUP)] == ["docker"]
