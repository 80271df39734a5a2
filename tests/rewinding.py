"""Bring Redis back to what it knew a moment ago: what a kill does to ``appendfsync everysec``, but exactly where the test wants."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from penstock.cli.embedded_redis import EmbeddedRedis

if TYPE_CHECKING:
    from pathlib import Path


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
        shutil.rmtree(self._copy, ignore_errors=True)
        shutil.copytree(self.directory, self._copy)

    def rewind(self) -> None:
        """Kill it and start it again with what it knew then."""
        self.kill()
        shutil.rmtree(self.directory)
        shutil.copytree(self._copy, self.directory)
        self.start()
