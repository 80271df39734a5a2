"""Environments for peers: a venv or a folder of node modules each, made once and kept; making one is never timed."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

INSTALL_SECONDS: Final = 600


class NotMeasured(Exception):
    """A peer, or one measure of it, that could not be had; the text goes into its row."""


@dataclass(frozen=True, slots=True)
class Home:
    """Where a peer's programs are found.

    Attributes:
        bin: folder of its executables; None takes commands as they are.
        environment: variables its processes need.
    """

    bin: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    def command(self, words: Sequence[str]) -> list[str]:
        """Spell a command whose first word is an executable of this home."""
        return [str(self.bin / words[0]) if self.bin else words[0], *words[1:]]


@dataclass(frozen=True, slots=True)
class Ours:
    """Runs where the benchmark runs."""

    def install(self, _: str) -> Home:
        """Answer this interpreter's environment."""
        return Home()


@dataclass(frozen=True, slots=True)
class Venv:
    """A venv of its own.

    Attributes:
        packages: as pip takes them, with bounds.
    """

    packages: tuple[str, ...]

    def install(self, name: str) -> Home:
        """Make it, unless it is there.

        Raises:
            NotMeasured: pip could not install the packages; quotes it.
        """
        python = f"python{sys.version_info.major}.{sys.version_info.minor}"
        folder = cache() / f"{name}-{python}-{_fingerprint(self.packages)}"
        home = Home(folder / "bin", {"VIRTUAL_ENV": str(folder)})
        if not _finished(folder).exists():
            shutil.rmtree(folder, ignore_errors=True)
            _run([sys.executable, "-m", "venv", str(folder)])
            _run([str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *self.packages])
            _finished(folder).touch()
        return home


@dataclass(frozen=True, slots=True)
class NodeModules:
    """A folder of node modules.

    Attributes:
        packages: as npm takes them, with bounds.
    """

    packages: tuple[str, ...]

    def install(self, name: str) -> Home:
        """Make it, unless it is there.

        Raises:
            NotMeasured: there is no node or npm, or npm could not install the packages.
        """
        missing = [tool for tool in ("node", "npm") if not shutil.which(tool)]
        if missing:
            raise NotMeasured(f"needs {' and '.join(missing)} on PATH")
        folder = cache() / f"{name}-{_fingerprint(self.packages)}"
        if not _finished(folder).exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            _run(["npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--silent", *self.packages])
            _finished(folder).touch()
        return Home(environment={"NODE_PATH": str(folder / "node_modules")})


def cache() -> Path:
    """Answer the folder that keeps environments, below the user's cache folder; where that cannot be written, one for this run."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "penstock-benchmarks"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return Path(_for_this_run().name)
    return folder


@functools.cache
def _for_this_run() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="penstock-benchmarks-")


def _finished(folder: Path) -> Path:
    """What tells an environment that is complete from one whose installation was interrupted."""
    return folder / "finished"


def _fingerprint(packages: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(packages).encode()).hexdigest()[:8]


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=INSTALL_SECONDS)
    except subprocess.TimeoutExpired as slow:
        raise NotMeasured(f"could not be installed within {INSTALL_SECONDS} s") from slow
    if done.returncode:
        raise NotMeasured(f"could not be installed: {last_line(done.stderr or done.stdout)}")


def last_line(text: str) -> str:
    """Answer the last line that says something, for a reason in one row."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "it said nothing"
