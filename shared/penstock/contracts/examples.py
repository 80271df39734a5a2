"""Examples: one of every message, as it stands in ``__data__``; events have theirs in the event catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from penstock.keys import address

if TYPE_CHECKING:
    from penstock.contracts.base import Json

_COMMAND: Final[Json] = {"id": "5f0c2a7e", "deadline": 1795306559281}
_POOL: Final[Json] = {"pool_id": "5c8f0a46-54a1-4b36-9d8f-1f9f4a2a7c11", "pool": "etl"}
_GONE: Final[Json] = {"id": "9b1dc9f2-7a3e-4f0d-8f5b-6f7f7d0c5e22", "name": "critical"}
_WORKER: Final[Json] = {"pool": "etl", "worker": "w1"}
_RUN: Final = "01a2009b-f01f-7000-9bd5-16bb725e0000"
_DEPLOYED: Final[Json] = {"deployment_id": "7d0f5b7e-6c1a-4a55-9c0e-2f1b7f0a9e33", "deployment": "hello/demo"}
_CLAIM: Final[Json] = {"token": "687c6bfa284574af6ab4e89b3f9fbf9d", "epoch": 1}

_BODIES: Final[dict[str, Json]] = {
    "create_pool": {**_COMMAND, "pool": "etl", "worker_type": "process", "concurrency_limit": 5},
    "update_pool": {**_COMMAND, "pool": "etl", "changes": {"concurrency_limit": None}},
    "pause_pool": {**_COMMAND, "pool": "etl"},
    "resume_pool": {**_COMMAND, "pool": "etl"},
    "delete_pool": {**_COMMAND, "pool": "etl"},
    "read_pool": {**_COMMAND, "pool": "etl"},
    "create_queue": {**_COMMAND, "pool": "etl", "queue": "critical", "priority": 1, "concurrency_limit": 1},
    "update_queue": {**_COMMAND, "pool": "etl", "queue": "critical", "changes": {"priority": 2}},
    "pause_queue": {**_COMMAND, "pool": "etl", "queue": "critical"},
    "resume_queue": {**_COMMAND, "pool": "etl", "queue": "critical"},
    "delete_queue": {**_COMMAND, "pool": "etl", "queue": "critical"},
    "create_deployment": {
        **_COMMAND,
        "deployment": "hello/demo",
        "pool": "etl",
        "entrypoint": "hello.py:hello",
        "working_dir": "/srv/flows",
        "parameters": {"name": "world"},
        "schedules": [{"cron": "0 6 * * 1-5", "timezone": "Europe/Berlin"}],
        "overwrite": True,
    },
    "update_deployment": {**_COMMAND, "deployment": "hello/demo", "changes": {"concurrency_limit": 1}},
    "pause_deployment": {**_COMMAND, "deployment": "hello/demo"},
    "resume_deployment": {**_COMMAND, "deployment": "hello/demo"},
    "delete_deployment": {**_COMMAND, "deployment": "hello/demo"},
    "create_schedule": {**_COMMAND, "deployment": "hello/demo", "schedule": {"interval_seconds": 3600}},
    "update_schedule": {**_COMMAND, "deployment": "hello/demo", "schedule_id": "nightly", "active": False},
    "delete_schedule": {**_COMMAND, "deployment": "hello/demo", "schedule_id": "nightly"},
    "worker.heartbeat": {
        **_WORKER,
        "worker_type": "process",
        "boot_id": "life-1",
        "interval_seconds": 30,
        "queues": ["critical"],
        "slots": 10,
    },
    "submit_runs": {
        **_COMMAND,
        "pool": "etl",
        "runs": [
            {
                "id": _RUN,
                "name": "brave-heron",
                "queue": "critical",
                "spec": {"entrypoint": "flows/etl.py:main", "parameters": {"day": "2026-11-21"}},
            }
        ],
    },
    "claim_runs": {**_COMMAND, "pool": "etl"},
    "cancel_runs": {**_COMMAND, "runs": [_RUN]},
    "delete_runs": {**_COMMAND, "runs": [_RUN]},
    "drain_worker": {**_COMMAND, **_WORKER, "deadline_seconds": 60},
    "report_runs": {
        **_WORKER,
        "reports": [
            {"run": _RUN, **_CLAIM, "state": "COMPLETED", "started_ms": 1795306549300, "ended_ms": 1795306550300}
        ],
    },
    "announce_worker": {**_POOL, **_WORKER, "boot_id": "life-1", "seq": 1795306549282, "slots": 10, "queues": []},
    "lose_worker": {**_POOL, **_WORKER, "boot_id": "life-1", "seq": 1795306549283, "reason": "heartbeat-lost"},
    "pool.changed": _POOL,
    "pool.deleted": {**_POOL, "worker_type": "process", "queues": [_GONE]},
    "queue.deleted": {**_POOL, "worker_type": "process", "queue": _GONE},
    "deployment.changed": {**_DEPLOYED, "pool": "etl", "revision": 2},
    "deployment.deleted": {**_DEPLOYED, "pool": "etl"},
    "accept_worker": {"boot_id": "life-1", "slots": 10},
    "refuse_worker": {
        "boot_id": "life-1",
        "code": "wrong_type",
        "reason": 'work pool "etl" takes workers of type "process", not "kubernetes"',
    },
    "assign_runs": {
        "boot_id": "life-1",
        "pool": "etl",
        "runs": [
            {
                "id": _RUN,
                "name": "brave-heron",
                **_CLAIM,
                "queue": "critical",
                "due_ms": 1795306549281,
                "spec": {"command": ["echo", "hello"]},
            }
        ],
    },
    "revoke_runs": {"runs": [{"id": _RUN, "epoch": 1}]},
    "stop_runs": {"runs": [{"id": _RUN, "epoch": 1}]},
    "stop_worker": {"boot_id": "life-1", "deadline_seconds": 60},
    "audit_runs": {"boot_id": "life-1", "runs": [{"id": _RUN, **_CLAIM, "state": "RUNNING"}]},
    "dead.letter": {
        "reason": "unknown type 'x'; this stream takes worker.heartbeat",
        "stream": address("heartbeats", "{0}"),
        "entry_id": "1795306549281-0",
        "group": "heartbeat_monitor",
        "deliveries": 1,
        "fields": {"__data__": {"text": '{"type":"x"}'}},
    },
    "run.log": {"run": _RUN, "lines": [{"at_ms": 1795306549301, "source": "stdout", "text": "hello"}]},
}

EXAMPLES: Final[dict[str, Json]] = {
    **{name: {"type": name, **body} for name, body in _BODIES.items()},
    "reply": {"id": "5f0c2a7e", "ok": True, "result": {"accepted": [_RUN], "refused": []}},
}
"""Message -> an example; a reply has no type, it is known by the list it lies in."""
