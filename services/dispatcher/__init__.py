"""Dispatcher: runs waiting, claimed, running, finished. The only place where a limit is enforced.

Consumes: ``dispatch`` (submit_runs, report_runs, announce_worker, lose_worker, claim_runs), ``definitions`` (pool.changed,
    pool.deleted, queue.deleted).
Emits: ``events`` (prefect.flow-run.*, penstock.run.claim-expired), ``inbox`` (accept_worker, assign_runs, revoke_runs).
Owns: runs, waiting sets, in-flight sets, claims, worker slots, due times.
"""
