from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from services.dispatcher.settings import DispatcherSettings
from services.dispatcher.store import DispatchStore

if TYPE_CHECKING:
    from redis.asyncio import Redis


@pytest.fixture
def store(client: Redis) -> DispatchStore:
    """The dispatcher's store on an empty Redis."""
    return DispatchStore(client, DispatcherSettings())
