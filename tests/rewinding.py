"""Bring Redis back to what it knew a moment ago: what a kill does to ``appendfsync everysec``, but exactly where the test wants."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from penstock.cli.embedded_redis import EmbeddedRedis

if TYPE_CHECKING:
    from pathlib import Path


def save(server: EmbeddedRedis, copy: Path) -> None:
    """Remember this moment of a server: what it has written so far. A last command that is half written does not count."""
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(server.directory, copy)


def kill_and_bring_back(server: EmbeddedRedis, copy: Path) -> None:
    """Kill a server and give it back what it knew; it is not started."""
    server.kill()
    shutil.rmtree(server.directory)
    shutil.copytree(copy, server.directory)


class RewindableRedis(EmbeddedRedis):
    """A Redis whose file has everything it has acknowledged, so that a copy of it is an exact moment.

    Args:
        folder: for its data and the copy.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "redis", options={"appendfsync": "always", "auto-aof-rewrite-percentage": "0"})
        self._copy = folder / "copy"

    def save(self) -> None:
        """Remember this moment."""
        save(self, self._copy)

    def rewind(self) -> None:
        """Kill it and start it again with what it knew then."""
        kill_and_bring_back(self, self._copy)
        self.start()
