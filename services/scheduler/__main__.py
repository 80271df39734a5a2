"""``python -m services.scheduler``."""

from __future__ import annotations

from penstock.bus.service import main
from services.scheduler.app import SERVICE, build
from services.scheduler.settings import SchedulerSettings

if __name__ == "__main__":
    main(SERVICE, SchedulerSettings, build)
