"""Settings of the pool registry: only the common ones."""

from __future__ import annotations

from typing import ClassVar

from penstock.settings import Settings


class PoolRegistrySettings(Settings):
    """What the pool registry needs to know; it has no variables of its own."""

    party: ClassVar[str] = "POOL_REGISTRY"
