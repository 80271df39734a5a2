"""Valid messages of every type, to be sent as they are or to be broken."""

from __future__ import annotations

import copy
import itertools
from typing import TYPE_CHECKING, Any, Final

from penstock.contracts.catalogue import CHANNELS, WORKER
from penstock.contracts.examples import EXAMPLES
from penstock.contracts.runs import new_run_id

if TYPE_CHECKING:
    from random import Random

VICTIMS: Final = ("victim", "victim two")
"""Pools that anything may happen to."""
STRANGE: Final = "strange"
"""Pool of the fuzz's own runs, which nothing else is told about: whatever is accepted must end."""
HANDS: Final = "hands"
"""Pool of a real worker process, whose inbox is written to."""
HAND: Final = "hand"
GOOD: Final = "good"
"""Pool of the runs between all of this; no entry names it."""
SHARES: Final[dict[str, int]] = {
    "dispatch": 34,
    "commands": 24,
    "heartbeats": 18,
    "definitions": 14,
    "inbox": 4,
    "events": 4,
    "logs": 2,
}
"""Of a hundred entries."""
_QUEUES: Final = ("default", "critical", "low", "{0}", "a:b")
_WORKERS: Final = ("w1", "w2", "{0}", "x y")
_DEPLOYMENTS: Final = ("hello/demo", "hello/{0}", "a:b/c*")
_TEMPLATE: Final = {
    "job_configuration": {"command": "{{ command }}", "env": "{{ env }}"},
    "variables": {
        "type": "object",
        "properties": {
            "command": {"type": "string"},
            "env": {"type": "object", "additionalProperties": {"type": "string"}},
        },
        "required": ["command"],
    },
}
_RICHER: Final[dict[str, list[dict[str, Any]]]] = {
    "create_pool": [
        {"base_job_template": _TEMPLATE, "description": "d", "max_attempts": 2},
        {"overwrite": True, "is_paused": True},
    ],
    "update_pool": [
        {"changes": {"base_job_template": _TEMPLATE}},
        {"changes": {"description": "d", "on_worker_lost": "keep"}},
    ],
    "update_queue": [{"changes": {"name": "renamed", "description": "d", "concurrency_limit": 3}}],
    "create_queue": [{"if_missing": True}],
    "create_deployment": [
        {
            "parameter_schema": {"type": "object", "properties": {"name": {"type": "string"}}},
            "job_variables": {"env": {"A": "b"}},
            "tags": ["t"],
            "retries": 2,
        },
        {"schedules": [{"interval_seconds": 3600, "slug": "a"}, {"rrule": "FREQ=DAILY;COUNT=3"}], "paused": True},
    ],
    "update_deployment": [{"changes": {"parameters": {"a": 1}, "queue": "low"}}, {"changes": {"entrypoint": "a.py:b"}}],
    "create_schedule": [{"schedule": {"cron": "@hourly", "timezone": "Europe/Berlin", "parameters": {"a": [1]}}}],
    "update_schedule": [{"schedule": {"rrule": "FREQ=WEEKLY;BYDAY=MO", "slug": "nightly"}}],
    "worker.heartbeat": [
        {"prefetch_seconds": 5, "version": "1", "host": "h", "pid": 7, "seq": 3},
        {"stopping": True},
        {"draining": True, "queues": []},
    ],
}


class Messages:
    """Makes valid messages.

    Args:
        chance: decides.
    """

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self._numbers = itertools.count()
        self.pool_ids: list[str] = [EXAMPLES["pool.changed"]["pool_id"]]
        """Ids that exist, so that entries reach deep."""
        self.boot_id = "life-1"
        """Of the real worker."""
        self.logged = ""
        """Id of a good run, to whose output is written."""

    def stream(self) -> str:
        """Choose where the next entry goes."""
        return self._chance.choices(list(SHARES), list(SHARES.values()))[0]

    def make(self, stream: str) -> dict[str, Any]:
        """Make a valid message for a stream."""
        if stream == "events":
            return self._event()
        if stream == "logs":
            return self._lines()
        readers = {WORKER: CHANNELS["inbox"].readers[WORKER]} if stream == "inbox" else CHANNELS[stream].readers
        kinds = sorted({kind for found in readers.values() for kind in found})
        kind = self._chance.choice([*kinds, *(["submit_runs"] * 6 if stream == "dispatch" else [])])
        message = copy.deepcopy(EXAMPLES[kind])
        if kind in _RICHER and self._chance.random() < 0.5:
            message.update(copy.deepcopy(self._chance.choice(_RICHER[kind])))
        self._place(message)
        if "id" in message:
            self._ask(message)
        if stream == "inbox":
            self._for_worker(kind, message)
        elif kind == "submit_runs":
            self._submission(message)
        return message

    def _place(self, message: dict[str, Any]) -> None:
        chance = self._chance
        choices: dict[str, Any] = {
            "pool": VICTIMS,
            "worker": _WORKERS,
            "deployment": _DEPLOYMENTS,
            "pool_id": self.pool_ids,
        }
        if isinstance(message.get("queue"), str):
            choices["queue"] = _QUEUES
        for name, among in choices.items():
            if name in message:
                message[name] = chance.choice(among)
        if message["type"] in ("cancel_runs", "delete_runs"):
            message["runs"] = [new_run_id(0) for _ in range(chance.randint(1, 3))]

    def _ask(self, message: dict[str, Any]) -> None:
        message["id"] = f"f-{next(self._numbers)}"
        lot = self._chance.random()
        message["deadline"] = 1 if lot < 0.1 else 2**52
        if lot > 0.5:
            del message["deadline"]

    def _submission(self, message: dict[str, Any]) -> None:
        chance = self._chance
        lot = chance.random()
        message["pool"] = HANDS if lot < 0.02 else STRANGE if lot < 0.9 else chance.choice(VICTIMS)
        message["runs"] = [self._run() for _ in range(chance.choice((1, 1, 2, 3, 8)))]

    def _run(self) -> dict[str, Any]:
        chance = self._chance
        spec: dict[str, Any] = {"command": ["true"]}
        extra: dict[str, Any] = {
            "parameters": {"day": "2026", "deep": {"a": [1, {"b": None}]}},
            "env": {"A": "b", "C": None},
        }
        extra |= {"labels": {"a": "b"}, "tags": ["t", "u"], "job_variables": {"stream_output": False}}
        for name in chance.sample(sorted(extra), chance.randint(0, 3)):
            spec[name] = copy.deepcopy(extra[name])
        run: dict[str, Any] = {
            "id": new_run_id(0),
            "name": "brave-heron",
            "queue": chance.choice(_QUEUES),
            "spec": spec,
        }
        if chance.random() < 0.2:
            run |= {"retries": 1, "retry_delay_seconds": 0.5, "idempotency_key": f"key-{next(self._numbers) % 50}"}
        return run

    def _for_worker(self, kind: str, message: dict[str, Any]) -> None:
        if kind not in ("stop_worker", "refuse_worker", "accept_worker", "audit_runs"):
            # What is addressed to it: the others would end it or what it holds, as they should.
            if "boot_id" in message:
                message["boot_id"] = self.boot_id
            if "pool" in message:
                message["pool"] = HANDS
        if kind == "assign_runs":
            message["runs"] = [{**message["runs"][0], "id": new_run_id(0), "spec": {"command": ["true"]}}]

    def _lines(self) -> dict[str, Any]:
        message = copy.deepcopy(EXAMPLES["run.log"])
        message["run"] = self.logged
        return message

    def _event(self) -> dict[str, Any]:
        number = next(self._numbers)
        return {
            "type": self._chance.choice(
                ("prefect.flow-run.Completed", "prefect.work-pool.updated", "penstock.worker.online")
            ),
            "id": f"00000000-0000-5000-8000-{number:012d}",
            "occurred": "2026-11-28T00:00:00.000Z",
            "event": "prefect.work-pool.updated",
            "resource": {"prefect.resource.id": f"prefect.work-pool.{number}", "prefect.resource.name": "etl"},
            "related": [
                {"prefect.resource.role": "work-pool", "prefect.resource.id": "x", "prefect.resource.name": "etl"}
            ],
            "payload": {"updates": {"description": {"from": None, "to": "d"}}, "reason": "r"},
            "follows": None,
            "seq": 1,
        }
