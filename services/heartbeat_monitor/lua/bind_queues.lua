-- bind_queues: Recompute which queues the ONLINE workers that name theirs serve, after a definition changed.
--
-- KEYS      events     STREAM  the partition's events
-- ARGV      pool_id    the pool
-- USES      pool_online pool_online_any
-- INCLUDES  clock events readiness workers
-- RETURNS   workers for whom something changed; they are announced again
-- COST      O(queues of the pool * its ONLINE workers that name queues)
-- RULE      rules.serves
local pool = load_pool(pool_id)
if not pool then return 0 end

local before, moved = readiness(pool), 0
local names = redis.call('SDIFF', key_pool_online(pool_id), key_pool_online_any(pool_id))
table.sort(names)
for _, name in ipairs(names) do
  local worker = read_worker(pool, name)
  if bind_worker(pool, name, worker.queues, true) then
    announce_worker(worker)
    moved = moved + 1
  end
end
publish_readiness(pool, before)
return moved
