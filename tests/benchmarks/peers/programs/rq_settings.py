"""Settings of the RQ worker, the module its ``--config`` takes."""

from __future__ import annotations

from tests.benchmarks.peers.programs import jobs

REDIS_URL = jobs.redis_url()
