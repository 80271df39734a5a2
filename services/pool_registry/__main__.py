"""Run the pool registry: ``python -m services.pool_registry``."""

from __future__ import annotations

from penstock.bus.service import main
from services.pool_registry.app import SERVICE, build
from services.pool_registry.settings import PoolRegistrySettings

if __name__ == "__main__":
    main(SERVICE, PoolRegistrySettings, build)
