-- forget_workers: Drop the names of a pool's workers whose own record has expired.
--
-- KEYS      events     STREAM  decides the slot
-- ARGV      pool_id    the pool
-- USES      pool_workers worker
-- RETURNS   names dropped
-- COST      O(workers of the pool)
-- RULE      none
local dropped = 0
for _, name in ipairs(redis.call('SMEMBERS', key_pool_workers(pool_id))) do
  if redis.call('EXISTS', key_worker(pool_id .. '/' .. name)) == 0 then
    dropped = dropped + redis.call('SREM', key_pool_workers(pool_id), name)
  end
end
return dropped
