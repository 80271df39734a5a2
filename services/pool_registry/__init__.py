"""Pool registry: what exists. Pools and their queues are created, changed, paused and deleted here and nowhere else.

Consumes: ``commands`` (penstock.contracts.pools, penstock.contracts.queues), in the order of the stream.
Emits:    ``definitions`` (``pool.changed``, ``pool.deleted``, ``queue.deleted``), ``events`` (``prefect.work-pool.*``,
          ``prefect.work-queue.*``), and a reply to every command.
Owns:     pools, pool, pool_queues, pool_queue_names, queue (see penstock.keys).
"""
