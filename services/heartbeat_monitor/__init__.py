"""Heartbeat monitor: who is alive. Workers come ONLINE and go OFFLINE here, and pools and queues turn ready with them.

Consumes: ``heartbeats`` (worker.heartbeat), ``definitions`` (pool.changed, pool.deleted, queue.deleted).
Emits:    ``events`` (penstock.worker.online/.offline/.draining/.refused, prefect.worker.started/.stopped,
          prefect.work-pool.ready/.not-ready, prefect.work-queue.ready/.not-ready), ``dispatch`` (announce_worker,
          lose_worker), ``inbox`` (refuse_worker), ``commands`` (create_queue with if_missing).
Owns:     worker, pool_workers, pool_online, pool_online_any, queue_online, liveness, liveness_tick, refused
          (see penstock.keys).
"""
