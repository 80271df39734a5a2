"""Dispatcher: runs waiting, claimed, running, finished. The only place where a limit is enforced.

Consumes: ``dispatch`` (submit_runs, cancel_runs, delete_runs, report_runs, announce_worker, lose_worker, drain_worker,
    claim_runs),
    ``definitions`` (pool.changed, pool.deleted, queue.deleted, deployment.changed, deployment.deleted).
Emits: ``events`` (prefect.flow-run.*, penstock.run.claim-expired), ``inbox`` (accept_worker, assign_runs, stop_runs,
    revoke_runs, stop_worker, audit_runs).
Owns: runs, waiting and parked sets, in-flight sets, claims, worker slots, due times, idempotency keys, when who is audited.
"""
