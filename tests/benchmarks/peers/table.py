"""The peers: what is installed for each, how its worker is started, by its own documentation."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.benchmarks.peers import facts
from tests.benchmarks.peers.homes import NodeModules, Ours, Venv
from tests.benchmarks.peers.penstock_side import PROGRAM, installation
from tests.benchmarks.peers.prefect_side import server

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from tests.benchmarks.peers.homes import Home

PROGRAMS: Final = "tests.benchmarks.peers.programs"
BULLMQ: Final = str(Path(__file__).with_name("programs") / "bullmq_program.cjs")
HIREDIS: Final = "hiredis>=3.1,<4"
"""The faster parser for every client of redis-py, so that it makes no difference between peers."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of each measure.

    Attributes:
        seconds: about how long the jobs of one throughput measure should last.
        most: jobs at most.
        paced, per_second: jobs of the latency measure, and how fast they come.
        rounds: at most so many.
        knock_seconds: how long after a first job to try another, while the worker has executed none.
        drain: whether draining alone is measured.
        limit_seconds: one round may take so long; what is missing then is missing.
    """

    seconds: float = 2.5
    most: int = 20_000
    paced: int = 150
    per_second: float = 50
    rounds: int = 1000
    knock_seconds: float = 1
    drain: bool = True
    limit_seconds: float = 90


@dataclass(frozen=True, slots=True)
class Peer:
    """One row.

    Attributes:
        name: what ``--peer`` calls it; several rows may have one name.
        title: of the row.
        needs: makes its environment.
        producer, worker: commands; the first word is an executable of that environment.
        facts: what its documentation says.
        note: what a reader must know about how it was started.
        around: what else must run, given the home, the variables of its processes and a folder; answers further variables.
        sizes: None takes those of the run.
        lives: for redelivery: workers to kill by label; empty means ``worker``.
    """

    name: str
    title: str
    needs: Venv | NodeModules | Ours
    producer: tuple[str, ...]
    worker: tuple[str, ...]
    facts: facts.Facts
    note: str = ""
    around: Callable[[Home, Mapping[str, str], Path], AbstractAsyncContextManager[Mapping[str, str]]] | None = None
    sizes: Sizes | None = None
    redelivery: bool = True
    lives: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def produces(module: str, distribution: str, *, python: str = "python") -> tuple[str, ...]:
    """Spell the command of a producer in Python."""
    return (python, "-m", f"{PROGRAMS}.produce", module, distribution)


_CELERY = Venv(("celery[redis]>=5.5,<6", HIREDIS))
_CELERY_WORKER = ("celery", "-A", f"{PROGRAMS}.celery_program", "worker", "--loglevel=WARNING")
_RQ = Venv(("rq>=3,<4", HIREDIS))
_BULLMQ = NodeModules(("bullmq@>=5 <7", "ioredis@>=5 <6"))
_PENSTOCK_WORKER = (sys.executable, "-m", PROGRAM)

PENSTOCK: Final = Peer(
    name="penstock",
    title="Penstock",
    needs=Ours(),
    producer=produces(PROGRAM, "penstock", python=sys.executable),
    worker=_PENSTOCK_WORKER,
    facts=facts.PENSTOCK,
    note="3 services, 1000 slots",
    around=installation,
    lives={
        "heartbeats 1 s": (*_PENSTOCK_WORKER, "--heartbeat-seconds", "1"),
        "30 s, the default": _PENSTOCK_WORKER,
    },
)

PEERS: Final = (
    Peer(
        name="celery",
        title="Celery, solo",
        needs=_CELERY,
        producer=produces(f"{PROGRAMS}.celery_program", "celery"),
        worker=(*_CELERY_WORKER, "--pool=solo"),
        facts=facts.CELERY,
        note="results ignored",
    ),
    Peer(
        name="celery",
        title="Celery, prefork",
        needs=_CELERY,
        producer=produces(f"{PROGRAMS}.celery_program", "celery"),
        worker=(*_CELERY_WORKER, "--pool=prefork"),
        facts=facts.CELERY,
        note="a child a core, the default; results ignored",
    ),
    Peer(
        name="dramatiq",
        title="Dramatiq",
        needs=Venv(("dramatiq[redis]>=2,<3", HIREDIS)),
        producer=produces(f"{PROGRAMS}.dramatiq_program", "dramatiq"),
        worker=("dramatiq", f"{PROGRAMS}.dramatiq_program", "--processes", "1"),
        facts=facts.DRAMATIQ,
        note="8 threads, the default",
    ),
    Peer(
        name="huey",
        title="Huey",
        needs=Venv(("huey>=3,<4", "redis>=5,<9", HIREDIS)),
        producer=produces(f"{PROGRAMS}.huey_program", "huey"),
        worker=("huey_consumer", f"{PROGRAMS}.huey_program.huey", "--quiet"),
        facts=facts.HUEY,
        note="1 thread, the default",
    ),
    Peer(
        name="rq",
        title="RQ",
        needs=_RQ,
        producer=produces(f"{PROGRAMS}.rq_program", "rq"),
        worker=("rq", "worker", "--quiet", "--config", f"{PROGRAMS}.rq_settings"),
        facts=facts.RQ,
        note="forks for each job, the default",
    ),
    Peer(
        name="rq",
        title="RQ, SimpleWorker",
        needs=_RQ,
        producer=produces(f"{PROGRAMS}.rq_program", "rq"),
        worker=(
            "rq",
            "worker",
            "--quiet",
            "--config",
            f"{PROGRAMS}.rq_settings",
            "--worker-class",
            "rq.worker.SimpleWorker",
        ),
        facts=facts.RQ,
        note="no fork",
    ),
    Peer(
        name="arq",
        title="arq",
        needs=Venv(("arq>=0.26,<0.29", HIREDIS)),
        producer=produces(f"{PROGRAMS}.arq_program", "arq"),
        worker=(
            "arq",
            f"{PROGRAMS}.arq_program.WorkerSettings",
            "--custom-log-dict",
            f"{PROGRAMS}.arq_program.QUIET",
        ),
        facts=facts.ARQ,
        note="10 jobs at once, poll every 0.5 s, the defaults",
    ),
    Peer(
        name="taskiq",
        title="Taskiq, streams",
        needs=Venv(("taskiq>=0.11,<0.14", "taskiq-redis>=1,<2", "uvloop>=0.21,<1", HIREDIS)),
        producer=produces(f"{PROGRAMS}.taskiq_program", "taskiq"),
        worker=(
            "taskiq",
            "worker",
            "--workers",
            "1",
            "--log-level",
            "WARNING",
            f"{PROGRAMS}.taskiq_program:broker",
        ),
        facts=facts.TASKIQ,
        note="100 jobs at once, the default",
    ),
    Peer(
        name="saq",
        title="SAQ",
        # It imports typing_extensions without requiring it.
        needs=Venv(("saq[redis]>=0.24,<0.27", "typing-extensions>=4.12,<5", HIREDIS)),
        producer=produces(f"{PROGRAMS}.saq_program", "saq"),
        worker=("saq", f"{PROGRAMS}.saq_program.settings"),
        facts=facts.SAQ,
        note="10 jobs at once, the default",
    ),
    Peer(
        name="bullmq",
        title="BullMQ, one at once",
        needs=_BULLMQ,
        producer=("node", BULLMQ, "produce"),
        worker=("node", BULLMQ, "work", "1"),
        facts=facts.BULLMQ,
        note="node, 1 job at once, the default",
    ),
    Peer(
        name="bullmq",
        title="BullMQ, ten at once",
        needs=_BULLMQ,
        producer=("node", BULLMQ, "produce"),
        worker=("node", BULLMQ, "work", "10"),
        facts=facts.BULLMQ,
        note="node, 10 jobs at once",
        redelivery=False,
    ),
    Peer(
        name="bullmq",
        title="BullMQ",
        needs=_BULLMQ,
        producer=("node", BULLMQ, "produce"),
        worker=("node", BULLMQ, "work", "100"),
        facts=facts.BULLMQ,
        note="node, 100 jobs at once, as its guide recommends where jobs do not keep the processor busy",
    ),
    Peer(
        name="prefect",
        title="Prefect",
        needs=Venv(("prefect>=3.4,<4",)),
        producer=produces(f"{PROGRAMS}.prefect_program", "prefect"),
        worker=("prefect", "worker", "start", "--pool", "bench", "--type", "process"),
        facts=facts.PREFECT,
        note="server on SQLite, a process a run; one round, redelivery not measured",
        around=server,
        sizes=Sizes(
            seconds=0, most=8, paced=3, per_second=0.15, rounds=1, knock_seconds=60, drain=False, limit_seconds=90
        ),
        redelivery=False,
    ),
)
