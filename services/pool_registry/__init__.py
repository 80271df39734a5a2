"""Pool registry: what exists. Pools, queues, deployments and schedules are created, changed, paused and deleted only here.

A deployment refers to its pool and its queue by name. Deleting a pool leaves its deployments: their runs have nowhere to go until a
pool of that name is there again, or the deployment is given another one. A queue that a command about a deployment names is
created with it.

Consumes: ``commands`` (penstock.contracts.pools, penstock.contracts.queues, penstock.contracts.deployments), in the order of the
          stream.
Emits:    ``definitions`` (``pool.changed``, ``pool.deleted``, ``queue.deleted``, ``deployment.changed``, ``deployment.deleted``),
          ``events`` (``prefect.work-pool.*``, ``prefect.work-queue.*``, ``prefect.deployment.*``), and a reply to every command.
Owns:     pools, pool, pool_queues, pool_queue_names, queue, deployments, deployment, schedules (see penstock.keys).
"""
