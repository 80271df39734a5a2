"""``python -m services.dispatcher``."""

from __future__ import annotations

from penstock.bus.service import main
from services.dispatcher.app import build
from services.dispatcher.settings import DispatcherSettings

if __name__ == "__main__":
    main("dispatcher", DispatcherSettings, build)
