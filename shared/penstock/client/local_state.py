"""What a running ``penstock up`` leaves for the SDK and other commands, so that they find its Redis by themselves.

``~/.penstock/up.json`` is written by ``penstock up`` and read by whoever was given no Redis;
``PENSTOCK_UP_HOME`` moves it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final, TypeVar

import orjson

from penstock.errors import Unavailable
from penstock.settings import Settings

HOME_VARIABLE: Final = "PENSTOCK_UP_HOME"
FILE_NAME: Final = "up.json"
REDIS_URL_VARIABLE: Final = "PENSTOCK_REDIS_URL"
S = TypeVar("S", bound=Settings)


def home() -> Path:
    """Where ``penstock up`` keeps its data and its state file: ``PENSTOCK_UP_HOME``, else ``~/.penstock``."""
    given = os.environ.get(HOME_VARIABLE)
    return Path(given).expanduser() if given else Path.home() / ".penstock"


def state_file() -> Path:
    """Path of the state file."""
    return home() / FILE_NAME


def write_state(state: dict[str, Any]) -> None:
    """Write the state file in one step: a reader sees the old one or the new one, never a half.

    Args:
        state: ``redis_url``, ``services`` and whatever else ``penstock up`` wants to tell; ``pid`` is the supervisor's,
            this process's unless given.
    """
    file = state_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_name(f"{FILE_NAME}.{os.getpid()}")
    # Readable by its owner only: a Redis URL may carry a password.
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
        stream.write(orjson.dumps({"pid": os.getpid(), **state}, option=orjson.OPT_INDENT_2))
    fresh.replace(file)


def read_state() -> dict[str, Any] | None:
    """Read the state of the ``penstock up`` that runs on this machine.

    Returns:
        What it wrote, or None when there is no file, it cannot be read, or the supervisor it names is dead.
    """
    try:
        state = orjson.loads(state_file().read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return None
    if not isinstance(state, dict) or not _is_alive(state.get("pid")):
        return None
    return state


def clear_state() -> None:
    """Remove the state file; nothing happens when there is none."""
    state_file().unlink(missing_ok=True)


def local_redis_url() -> str | None:
    """Say where the Redis of the running ``penstock up`` is; None when none runs."""
    url = (read_state() or {}).get("redis_url")
    return url if isinstance(url, str) else None


def _is_alive(pid: Any) -> bool:
    if not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def read_settings(kind: type[S]) -> S:
    """Read settings. Redis is where ``PENSTOCK_REDIS_URL`` says, else where the running ``penstock up`` has it.

    Args:
        kind: whose settings.

    Raises:
        BadSettings: a variable is unknown or wrong.
        Unavailable: ``PENSTOCK_UP_HOME`` names a ``penstock up`` that does not run: whatever answers at the default address
            is another one.
    """
    if os.environ.get(REDIS_URL_VARIABLE):
        return kind.read()
    url = local_redis_url()
    if url is None and os.environ.get(HOME_VARIABLE):
        raise Unavailable(
            f"no `penstock up` runs with its home in {home()} ({HOME_VARIABLE}); start it, or say with "
            f"{REDIS_URL_VARIABLE} where Redis is"
        )
    return kind.read(redis_url=url)
