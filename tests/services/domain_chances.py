"""What may happen in a random story, and how often; for ``test_domain_model.py``."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.services.domain_world import HOUR_MS

SENT_BEFORE_MS = 2 * HOUR_MS
"""Heartbeats bear ids of two hours ago: with an interval of 10 minutes a worker is overdue, with one of an hour it is not."""
SOON_MS, LATE_MS = HOUR_MS // 6, 240 * HOUR_MS
"""Due within, and beyond, the hour that a worker may be given a run ahead of its time."""

POOLS = st.sampled_from(["etl"] * 6 + ["ml"])
QUEUES = st.sampled_from(["default", "default", "a", "a", "b", "c"])
WORKERS = st.sampled_from(["w1", "w1", "w2", "w3"])
LIMITS = st.sampled_from([None, None, None, 1, 1, 2, 3, 0])
DEPLOYMENTS = st.sampled_from(["hello/demo", "hello/demo", "hello/other"])
DEPLOYMENT_LIMITS = st.sampled_from([None, 1, 1, 1, 2, 0])
STRATEGIES = st.sampled_from(["enqueue", "enqueue", "cancel_new"])
SCHEDULES = st.sampled_from(["0b9c8d7e-1111-4222-8333-944455566677", "0b9c8d7e-2222-4222-8333-944455566677"])
POLICIES = st.sampled_from(["crash", "requeue", "keep"])
RARELY = st.sampled_from([False] * 7 + [True])
SOON = st.sampled_from([True, True, True, False])
"""Whether the services read at once, or only after the next step."""
INDEX = st.integers(0, 1000)

NEW_POOLS = st.fixed_dictionaries(
    {
        "worker_type": st.sampled_from(["process"] * 5 + ["docker"]),
        "is_paused": RARELY,
        "concurrency_limit": LIMITS,
        "on_worker_lost": POLICIES,
        "max_attempts": st.integers(1, 2),
        "if_missing": st.booleans(),
        "overwrite": st.booleans(),
    }
)
POOL_CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "concurrency_limit": LIMITS,
        "on_worker_lost": POLICIES,
        "max_attempts": st.integers(1, 2),
        "description": st.sampled_from([None, "nightly"]),
    },
)
POOL_COMMANDS = st.one_of(
    *[st.fixed_dictionaries({"type": st.just("update_pool"), "changes": POOL_CHANGES})] * 3,
    *[st.just({"type": "resume_pool"})] * 2,
    st.just({"type": "pause_pool"}),
    *[NEW_POOLS.map(lambda new: {"type": "create_pool", **new})] * 2,
    st.just({"type": "delete_pool"}),
)
NEW_QUEUES = st.fixed_dictionaries(
    {
        "priority": st.none() | st.integers(1, 6),
        "concurrency_limit": LIMITS,
        "is_paused": RARELY,
        "if_missing": st.booleans(),
    }
)
QUEUE_CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "concurrency_limit": LIMITS,
        "priority": st.integers(1, 6),
        "name": st.sampled_from(["a", "b", "d"]),
    },
)
QUEUE_COMMANDS = st.one_of(
    *[NEW_QUEUES.map(lambda new: {"type": "create_queue", **new})] * 2,
    *[st.fixed_dictionaries({"type": st.just("update_queue"), "changes": QUEUE_CHANGES})] * 3,
    *[st.just({"type": "pause_queue"})] * 2,
    *[st.just({"type": "resume_queue"})] * 2,
    st.just({"type": "delete_queue"}),
)
NEW_DEPLOYMENTS = st.fixed_dictionaries(
    {
        "pool": POOLS,
        "queue": QUEUES,
        "concurrency_limit": DEPLOYMENT_LIMITS,
        "collision_strategy": STRATEGIES,
        "tags": st.sampled_from([[], [], ["nightly"]]),
        "description": st.none(),
        "paused": st.sampled_from([None, None, True, False]),
        "overwrite": st.booleans(),
    }
)
DEPLOYMENT_CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "concurrency_limit": DEPLOYMENT_LIMITS,
        "collision_strategy": STRATEGIES,
        "tags": st.sampled_from([[], ["nightly"]]),
        "pool": POOLS,
        "queue": QUEUES,
        "description": st.sampled_from([None, "nightly"]),
    },
)
DEPLOYMENT_COMMANDS = st.one_of(
    *[DEPLOYMENT_LIMITS.map(lambda limit: {"type": "update_deployment", "changes": {"concurrency_limit": limit}})] * 3,
    *[st.fixed_dictionaries({"type": st.just("update_deployment"), "changes": DEPLOYMENT_CHANGES})] * 2,
    st.sampled_from([{"type": "pause_deployment"}, {"type": "resume_deployment"}]),
    *[NEW_DEPLOYMENTS.map(lambda new: {"type": "create_deployment", "command": ["true"], **new})] * 2,
    st.sampled_from([None, None, "far"]).map(lambda pool: {"type": "delete_deployment", "moved_to": pool}),
)
RETRIES = st.sampled_from([(0, 0), (0, 0), (1, 0), (2, 0), (1, SOON_MS // 1000)])
"""How often, and after how many seconds."""
BEATS = st.fixed_dictionaries(
    {
        "pool": POOLS,
        "worker": WORKERS,
        "worker_type": st.sampled_from(["process"] * 9 + ["docker"]),
        "boot_id": st.sampled_from(["b1", "b1", "b1", "b2", "b3"]),
        "interval_seconds": st.sampled_from([3600, 600]),
        "queues": st.just([]) | st.lists(QUEUES, unique=True, max_size=2),
        "slots": st.integers(0, 4),
        "prefetch_seconds": st.sampled_from([0, 0, 3600]),
        "draining": st.sampled_from([False, False, True]),
        "stopping": RARELY,
    }
)
SUBMITTED = st.lists(st.tuples(QUEUES, st.sampled_from([None, SOON_MS, LATE_MS, -1, -2])), min_size=1, max_size=4)
