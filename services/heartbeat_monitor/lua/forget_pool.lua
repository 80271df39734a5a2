-- forget_pool: A pool is gone: its workers are OFFLINE, told so, and forgotten.
--
-- KEYS      events     STREAM  the partition's events
-- ARGV      pool_id    the pool
-- ARGV      pool_name  its name
-- ARGV      ...queues  ids of its queues
-- USES      liveness pool_online pool_online_any pool_workers queue_online worker
-- INCLUDES  clock events readiness workers
-- RETURNS   workers that were ONLINE
-- COST      O(workers + queues of the pool)
-- RULE      none
local pool = { id = pool_id, name = cjson.encode(pool_name), queues = {} }
local names = redis.call('SMEMBERS', key_pool_workers(pool_id))
local online = 0
table.sort(names)
for _, name in ipairs(names) do
  local worker = read_worker(pool, name)
  redis.call('ZREM', key_liveness(), worker.ident)
  if worker.status == 'ONLINE' then
    local at = tonumber(worker.last_heartbeat_ms)
    publish_worker(worker, 'penstock.worker.offline', '{"reason":"pool-deleted","last_heartbeat":"' ..
      iso(math.floor(at / 1000), at % 1000 * 1000) .. '"}')
  end
  -- Not before its last event, which its record counts.
  redis.call('DEL', key_worker(worker.ident))
  if worker.status == 'ONLINE' then
    online = online + 1
    refuse_worker(worker, pool_name, 'pool_deleted', 'work pool ' .. pool.name .. ' was deleted')
  end
end
redis.call('DEL', key_pool_workers(pool_id), key_pool_online(pool_id), key_pool_online_any(pool_id))
for index = queues_from, #ARGV do redis.call('DEL', key_queue_online(ARGV[index])) end
return online
