"""Every safeguard that can be taken out, and how it is found out. ``python -m tests.system.chaos --mutations`` tries them all.

Most lie in one line of a script. Where several guard the same thing, each is taken out alone: then only the right fault passes the
others, such as a report of a living claim that is wrong in nothing but its token.
"""

from __future__ import annotations

from typing import Final

from tests.system.chaos.mix import FEW, Mix
from tests.system.chaos.mutation import Mutation

PATIENCE: Final = 10.0
"""What is not back to work by then breaks promise 7."""

QUIET: Final = Mix(FEW, workers=False, faults={}, patience=PATIENCE, changes=("limit", "limit", "priority"))
PAUSES: Final = Mix(FEW, workers=False, faults={}, patience=PATIENCE, changes=("pause",))
FORGERIES: Final = Mix(
    FEW,
    workers=False,
    faults={"forge reports": 3, "replace worker": 1},
    apart=(0.02, 0.2),
    on_worker_lost=("requeue",),
    patience=PATIENCE,
)
LIVES: Final = Mix(
    FEW,
    workers=False,
    faults={"replace worker": 3, "duplicate entries": 1, "deliver again": 1},
    apart=(0.05, 0.4),
    on_worker_lost=("requeue",),
    patience=PATIENCE,
)
LOSSES: Final = Mix(
    FEW,
    workers=False,
    faults={"late words": 1, "silence worker": 2, "replace worker": 1},
    apart=(0.05, 0.4),
    on_worker_lost=("requeue",),
    patience=PATIENCE,
)
DEATHS: Final = Mix(
    FEW,
    workers=False,
    faults={"failpoint": 1, "kill service": 1, "die with entries in hand": 3},
    apart=(0.2, 0.5),
    patience=PATIENCE,
)
MIXES: Final = {
    "quiet": QUIET,
    "pauses": PAUSES,
    "forgeries": FORGERIES,
    "lives": LIVES,
    "losses": LOSSES,
    "deaths": DEATHS,
}

DISPATCHER: Final = "services/dispatcher/lua/"
MONITOR: Final = "services/heartbeat_monitor/lua/"
INCLUDES: Final = "shared/penstock/includes/"


def _all() -> list[Mutation]:
    def of(
        mix: Mix, name: str, out: str, file: str, find: str, put: str, *promises: int, seconds: float = 4
    ) -> Mutation:
        return Mutation(name, out, file, find, put, frozenset(promises), mix, seconds)

    report, claim = DISPATCHER + "report_runs.lua", DISPATCHER + "claim_runs.lua"
    return [
        # A report counts only from whom the run was given, for this claim.
        of(FORGERIES, "fence", "the fence of reports: token, epoch and worker", report,
           "run.token == ARGV[index + 1] and run.epoch == ARGV[index + 2] and run.worker == worker then", "run.worker then", 2),
        of(FORGERIES, "fence-token", "the token of a report", report, "run.token == ARGV[index + 1] and ", "", 2),
        of(FORGERIES, "fence-epoch", "the epoch of a report", report, "run.epoch == ARGV[index + 2] and ", "", 2),
        of(FORGERIES, "fence-worker", "the worker of a report", report,
           "run.epoch == ARGV[index + 2] and run.worker == worker then", "run.epoch == ARGV[index + 2] then", 2),
        # Admission.
        of(QUIET, "pool-limit", "the limit of a pool", claim, "if pool_limit then room", "if false then room", 1),
        of(QUIET, "queue-limit", "the limit of a queue", claim, "if limit then left", "if false then left", 1),
        of(QUIET, "deployment-limit", "the limit of a deployment", INCLUDES + "admission.lua",
           "local full = deployment.limit and deployment.held >= deployment.limit", "local full = false", 1),
        of(QUIET, "deployment-held", "that a run takes a slot of its deployment", INCLUDES + "assignment.lua",
           "if run.deployment_id then hold(run) end", "if run.deployment_id and false then hold(run) end", 1),
        of(QUIET, "worker-slots", "what a worker holds already", INCLUDES + "slots.lua",
           "tonumber(about[1]) - redis.call('SCARD', key_slots_in_flight(ident))", "tonumber(about[1])", 1),
        of(QUIET, "worker-slots-of-batch", "what a worker gets in the same step", INCLUDES + "assignment.lua",
           "worker.free = worker.free - 1", "worker.free = worker.free - 0", 1),
        of(PAUSES, "pool-pause", "the pause of a pool", claim, "if about[1] ~= 'false' or room <= 0 then",
           "if not about[1] or room <= 0 then", 4),
        of(PAUSES, "queue-pause", "the pause of a queue", claim, "return values[2] == 'false' and left or 0",
           "return left", 4),
        # Order.
        of(QUIET, "priority", "the priority of queues", claim,
           "ipairs(redis.call('ZRANGE', key_pool_queues(pool_id), 0, -1))",
           "ipairs(redis.call('ZREVRANGE', key_pool_queues(pool_id), 0, -1))", 3),
        of(QUIET, "order", "the order inside a queue", claim,
           "redis.call('ZRANGEBYSCORE', key_waiting(queue.id), '-inf', horizon,",
           "redis.call('ZREVRANGEBYSCORE', key_waiting(queue.id), horizon, '-inf',", 3),
        # Nothing is lost, nothing is held for ever.
        of(DEATHS, "reclaim", "the take-over of what a dead consumer had in hand", "shared/penstock/bus/reclaim.py",
           "for pending in waiting:", "for pending in waiting[:0]:", 2, seconds=5),
        of(LIVES, "give-back", "the give-back of a lost worker's runs", INCLUDES + "claims.lua",
           "ipairs(redis.call('SMEMBERS', key_slots_in_flight(ident)))", "ipairs({})", 2),
        of(LIVES, "new-life", "that a new life of a worker voids the claims of the old", DISPATCHER + "announce_worker.lua",
           "if stored[2] and stored[2] ~= boot_id then", "if false then", 2),
        of(QUIET, "release-pool", "the release of a slot of the pool", INCLUDES + "slots.lua",
           "later('ZREM', key_pool_in_flight(run.pool_id), run.id)", "local _ = key_pool_in_flight", 2, seconds=2),
        of(QUIET, "release-queue", "the release of a slot of the queue", INCLUDES + "slots.lua",
           "later('ZREM', key_queue_in_flight(run.queue_id), run.id)", "local _ = key_queue_in_flight", 2, seconds=2),
        of(QUIET, "release-worker", "the release of a slot of the worker", INCLUDES + "slots.lua",
           "later('SREM', key_slots_in_flight(ident), run.id)\n", "\n", 2, seconds=2),
        # Once, however often it is said.
        of(LIVES, "submission", "that a known run is not accepted again", DISPATCHER + "submit_runs.lua",
           "if redis.call('EXISTS', key_run(run_id)) == 1 then return 'known' end", "", 2, 5),
        of(LIVES, "terminal", "that a terminal state is final", report,
           "if is_terminal(run.state) then return 'known' end", "", 2, 5),
        of(LIVES, "superseded-heartbeat", "the boot id of an older life's heartbeat", MONITOR + "apply_heartbeats.lua",
           "elseif is_superseded(known, worker.boot_id) then", "elseif false then", 2),
        of(LOSSES, "old-announcement", "the number of an older announcement", DISPATCHER + "announce_worker.lua",
           "if stored[1] and tonumber(seq) <= tonumber(stored[1]) then return 0 end", "", 2, seconds=20),
        of(LOSSES, "old-loss", "the number of an older loss of a worker", DISPATCHER + "lose_worker.lua",
           "if stored[1] and tonumber(seq) <= tonumber(stored[1]) then return -1 end", "", 2, seconds=8),
        # Events.
        of(QUIET, "event-running", "the event line of the move to RUNNING", INCLUDES + "events.lua",
           "  redis.call('XADD', key_events(),",
           "  if name == 'prefect.flow-run.Running' then return end\n  redis.call('XADD', key_events(),", 5),
        of(QUIET, "event-completed", "the event line of the move to COMPLETED", INCLUDES + "events.lua",
           "  redis.call('XADD', key_events(),",
           "  if name == 'prefect.flow-run.Completed' then return end\n  redis.call('XADD', key_events(),", 5, seconds=2),
        of(PAUSES, "event-paused", "the event line of a pause", INCLUDES + "events.lua",
           "  redis.call('XADD', key_events(),",
           "  if name:sub(-7) == '.paused' then return end\n  redis.call('XADD', key_events(),", 5),
        of(QUIET, "event-twice", "that an event is told once", INCLUDES + "events.lua",
           "  redis.call('XADD', key_events(),",
           "  local function twice(...) redis.call(...) redis.call(...) end\n  twice('XADD', key_events(),", 5),
    ]  # fmt: skip


MUTATIONS: Final = {mutation.name: mutation for mutation in _all()}
