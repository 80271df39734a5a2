-- cancel_in_flight: Cancel what a deleted pool's workers hold, tell them to stop it, and forget the workers.
--
-- KEYS      events       STREAM  the partition's events
-- ARGV      pool         name the pool had
-- ARGV      pool_id      uuid of the pool
-- ARGV      message      why, for the events and the runs
-- ARGV      retention    seconds a finished run is kept
-- ARGV      kept         how many finished runs a pool keeps
-- USES      due inbox pool_free pool_in_flight pool_prefetch run slots
-- INCLUDES  clock events runs
-- RETURNS   number of runs cancelled
-- COST      O(runs in flight + workers)
-- RULE      none
local _ = events
local revoked, cancelled = {}, 0
for _, run_id in ipairs(redis.call('ZRANGE', key_pool_in_flight(pool_id), 0, -1)) do
  local run = read_run(run_id)
  if run then
    revoked[run.worker] = revoked[run.worker] or {}
    table.insert(revoked[run.worker], '"' .. run_id .. '"')
    release_run(run)
    finish_run(run, 'CANCELLED', message, string.format('%.0f', now_ms), retention)
    redis.call('HDEL', key_run(run_id), 'token')
    cancelled = cancelled + 1
  end
end
for worker, runs in pairs(revoked) do
  local inbox = key_inbox(pool .. '/' .. worker)
  redis.call('XADD', inbox, '*', 'type', 'revoke_runs', '__data__',
    '{"type":"revoke_runs","runs":[' .. table.concat(runs, ',') .. ']}')
end
for _, worker in ipairs(redis.call('ZRANGE', key_pool_prefetch(pool_id), 0, -1)) do
  redis.call('DEL', key_slots(pool_id .. '/' .. worker))
  redis.call('EXPIRE', key_inbox(pool .. '/' .. worker), 3600)
end
settle(retention, kept)
redis.call('DEL', key_pool_free(pool_id), key_pool_prefetch(pool_id))
redis.call('ZREM', key_due(), pool)
return cancelled
