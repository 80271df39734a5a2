"""What peers have and do not have, by their own documentation; not measured, therefore each with its source."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Facts:
    """Words for the columns that are not measured.

    Attributes:
        priorities: whether a waiting job can overtake another.
        limits: whether a number of jobs at once holds over all worker processes.
        pools: whether work is grouped in pools that workers join, with limits and readiness of their own.
        pause: whether handing out can be stopped for all workers at once.
        redelivery: what becomes of a job whose worker dies, by default.
    """

    priorities: str
    limits: str
    pools: str
    pause: str
    redelivery: str


PENSTOCK = Facts(
    priorities="strict, per queue",
    limits="pool, queue, deployment",
    pools="yes",
    pause="pool, queue, deployment",
    redelivery="3 heartbeats (policy requeue)",
)
"""README.md, the table of promises; each names its test."""

CELERY = Facts(
    # docs.celeryq.dev, "Message priorities" (routing guide): on Redis emulated by several lists, coarse.
    priorities="coarse",
    # "Task.rate_limit": per worker instance, not a global limit; worker concurrency is per worker, too.
    limits="no",
    pools="no",
    # "Workers Guide", cancel_consumer: each worker by remote control, nothing that outlives it.
    pause="per worker",
    # "Tasks", acks_late: acknowledged before execution; "Using Redis", visibility timeout 1 h for what was not acknowledged.
    redelivery="no; acks_late: 1 h",
)
DRAMATIQ = Facts(
    # dramatiq.io guide, "Message Prioritization": among the messages a worker has prefetched.
    priorities="within a worker",
    # Cookbook, ConcurrentRateLimiter: taken inside of the actor, which fails and is retried.
    limits="in the job",
    pools="no",
    pause="no",
    # RedisBroker, heartbeat_timeout: 60 s, and then whenever a broker command happens to do maintenance.
    redelivery="60 s and later",
)
HUEY = Facts(
    # huey.readthedocs.io guide, "Task priority": PriorityRedisHuey, not RedisHuey.
    priorities="other storage",
    # "Locking tasks", "Rate limits": lock_task is a limit of one and raises or retries; rate_limit counts starts, not jobs at once.
    limits="lock of one",
    pools="no",
    # "Canceling or pausing tasks": revoke drops executions of a task, it does not hold them.
    pause="no",
    # "Consumer internals": a popped task is nowhere but in the worker.
    redelivery="no",
)
RQ = Facts(
    # python-rq.org, "Workers": queues in the order they are given; "at_front" in "Queues".
    priorities="queue order",
    # RQ 3, RateLimit(key, concurrency): jobs with one key queued or executing at the same time.
    limits="by key",
    pools="no",
    # "rq suspend": all workers.
    pause="all workers",
    # "Exceptions": FailedJobRegistry, again only with Retry; abandoned jobs are found by the maintenance every 10 minutes.
    redelivery="no; Retry: 10 min",
)
ARQ = Facts(
    # arq-docs.helpmanuel.io: jobs are ordered by the time they are due.
    priorities="no",
    # max_jobs is per worker.
    limits="no",
    pools="no",
    pause="no",
    # "Pessimistic execution": when the in-progress key expires, job_timeout (300 s) and 10 s.
    redelivery="310 s",
)
TASKIQ = Facts(
    # taskiq-redis, README: brokers; streams have no priorities.
    priorities="no",
    # max-async-tasks is per worker process.
    limits="no",
    pools="no",
    pause="no",
    # RedisStreamBroker, idle_timeout: 10 minutes, looked at after other news.
    redelivery="10 min",
)
SAQ = Facts(
    # saq-py.readthedocs.io, Job.priority: only available in Postgres.
    priorities="Postgres only",
    # Worker.concurrency is per worker.
    limits="no",
    pools="no",
    pause="no",
    # Job.timeout 10 s, Job.retries 1, Worker.timers.sweep 60 s: swept and aborted; again only with more retries.
    redelivery="no; retries: 60 s",
)
BULLMQ = Facts(
    # docs.bullmq.io guide, "Prioritized".
    priorities="per job",
    # "Global Concurrency": one number a queue (groups: Pro edition).
    limits="queue",
    pools="no",
    # "Pausing queues".
    pause="queue",
    # "Stalled Jobs": lockDuration 30 s, looked for every 30 s.
    redelivery="30 to 60 s",
)
PREFECT = Facts(
    # docs.prefect.io, "Work pools", "Queue priority": lowest number first.
    priorities="per queue",
    # "Work pools", "Manage concurrency"; "Global concurrency limits".
    limits="pool, queue, deployment",
    pools="yes",
    # "Pause a work pool" and "work queues".
    pause="pool, queue, deployment",
    # "Detect zombie flows": by an automation one makes, and then it is Crashed, not again.
    redelivery="no",
)
