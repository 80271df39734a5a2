"""Run the heartbeat monitor: ``python -m services.heartbeat_monitor``."""

from __future__ import annotations

from penstock.bus.service import main
from services.heartbeat_monitor.app import SERVICE, build
from services.heartbeat_monitor.settings import HeartbeatMonitorSettings

if __name__ == "__main__":
    main(SERVICE, HeartbeatMonitorSettings, build)
