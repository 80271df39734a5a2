"""Settings of the heartbeat monitor: only the common ones."""

from __future__ import annotations

from typing import ClassVar

from penstock.settings import Settings


class HeartbeatMonitorSettings(Settings):
    """What the heartbeat monitor needs to know; it has no variables of its own."""

    party: ClassVar[str] = "HEARTBEAT_MONITOR"
