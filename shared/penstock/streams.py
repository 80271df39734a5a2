"""Every stream of a partition (``penstock:{p}:`` before each name). The table is the contract.

============== ================================================== ============================== ===========================
stream         writers                                            readers (consumer group)       kept
============== ================================================== ============================== ===========================
commands       CLI, SDK, gateway; dispatcher, heartbeat_monitor   pool_registry                  until acknowledged, capped
               (only ``create_queue`` with ``if_missing``)
heartbeats     workers                                            heartbeat_monitor              capped
dispatch       scheduler, CLI, SDK, gateway, workers,             dispatcher                     until acknowledged, capped
               heartbeat_monitor
definitions    pool_registry                                      heartbeat_monitor, dispatcher, capped
                                                                  scheduler
inbox:<p>/<w>  dispatcher (assignments), heartbeat_monitor        that worker                    while it lives, capped
               (refusals)
events         all services, inside the script that changes state anybody                        by age and size
dead           bus layer                                          operators                      by size and age
logs:<run>     workers                                            CLI, gateway                   capped, expires
============== ================================================== ============================== ===========================

An entry has two fields: ``type``, for cheap filtering, and ``__data__``, one bare JSON object that repeats the type.

"Until acknowledged, capped": the owner trims what its group has acknowledged; the cap is the emergency brake that keeps a
stream nobody reads from filling Redis (a lagging service is reported by its health check long before).
"""

from __future__ import annotations

from typing import Final, NamedTuple

DATA_FIELD: Final = "__data__"
TYPE_FIELD: Final = "type"

MAX_MESSAGE_BYTES: Final = 1_048_576
"""A larger entry is refused: one message must not stall a service that handles thousands a second."""


class Stream(NamedTuple):
    """One fixed stream of a partition."""

    name: str
    """Key family in :data:`penstock.keys.FAMILIES`."""
    max_length: int
    """Entries kept at most (approximate trimming, ``MAXLEN ~``)."""


COMMANDS: Final = Stream("commands", 100_000)
HEARTBEATS: Final = Stream("heartbeats", 100_000)
DISPATCH: Final = Stream("dispatch", 1_000_000)
DEFINITIONS: Final = Stream("definitions", 10_000)
EVENTS: Final = Stream("events", 200_000)
DEAD: Final = Stream("dead", 10_000)

ALL: Final = (COMMANDS, HEARTBEATS, DISPATCH, DEFINITIONS, EVENTS, DEAD)

EVENTS_MAX_AGE_SECONDS: Final = 7 * 24 * 3600
"""Prefect keeps events for seven days; so do we, size permitting."""
DEAD_MAX_AGE_SECONDS: Final = 30 * 24 * 3600
INBOX_MAX_LENGTH: Final = 20_000
"""Twice the slots a worker can have, whatever it has."""
INBOX_BEYOND_SLOTS: Final = 1_000
"""An inbox keeps twice as many entries as its worker has slots, and so many more: what it has not read always fits, what a
careless one never deletes is bounded."""
LOGS_MAX_LENGTH: Final = 50_000
"""A worker keeps about 10 MB of a run's output; this is for many short lines, and for runs that are tried again and again."""
LOGS_EXPIRE_SECONDS: Final = 24 * 3600
REPLY_EXPIRE_SECONDS: Final = 60
ANSWER_EXPIRE_SECONDS: Final = 600
"""Longer than any command waits for its reader, so that a re-delivery always finds the answer."""
LAST_APPLIED_EXPIRE_SECONDS: Final = 7 * 24 * 3600
"""Longer than everybody who could carry out an older command is away."""
