"""Scheduler: schedules -> runs that will be due. It only ever submits; everything else about runs is the dispatcher's.

Consumes: ``definitions`` (deployment.changed, deployment.deleted, pool.deleted, queue.deleted).
Emits:    ``dispatch`` (submit_runs), each run with an idempotency key of its schedule and fire time: however many schedulers
          run, and wherever one is killed, a fire time has one run.
Owns:     schedule_plans, schedule_due (see penstock.keys).
"""
