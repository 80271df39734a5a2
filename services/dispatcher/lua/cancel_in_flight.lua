-- cancel_in_flight: Cancel what a deleted pool's workers hold, tell them to stop it, and forget the workers.
--
-- KEYS      events       STREAM  the partition's events
-- ARGV      pool         name the pool had
-- ARGV      pool_id      uuid of the pool
-- ARGV      message      why, for the events and the runs
-- ARGV      max_runs     how many at most in this call
-- ARGV      retention    seconds a finished run is kept
-- ARGV      kept         how many finished runs a pool keeps
-- USES      audits due inbox pool_free pool_in_flight pool_prefetch pools run slots
-- INCLUDES  clock events runs parking sets slots inboxes
-- RETURNS   number of runs looked at; 0 means none is in flight any more and the workers are forgotten
-- COST      O(runs in flight + workers)
-- RULE      none
local _ = events
local revoked = {}
-- Another pool may have taken the name by now; inboxes and due times go by names and are its own then.
local successor = redis.call('HGET', key_pools(), pool)
local run_ids = redis.call('ZRANGE', key_pool_in_flight(pool_id), 0, tonumber(max_runs) - 1)
for _, run_id in ipairs(run_ids) do
  redis.call('ZREM', key_pool_in_flight(pool_id), run_id)
  local run = read_run(run_id)
  if run then
    revoked[run.worker] = revoked[run.worker] or {}
    table.insert(revoked[run.worker], '{"id":"' .. run_id .. '","epoch":' .. run.epoch .. '}')
    release_run(run)
    finish_run(run, 'CANCELLED', message, now_text, retention)
    redis.call('HDEL', key_run(run_id), 'token')
  end
end
local function leave_inbox(worker)
  if not successor or redis.call('EXISTS', key_slots(successor .. '/' .. worker)) == 0 then
    redis.call('EXPIRE', key_inbox(pool .. '/' .. worker), 3600)
  end
end
for worker, runs in pairs(revoked) do
  send_to(pool_id .. '/' .. worker, pool .. '/' .. worker, 'revoke_runs', '', runs)
  leave_inbox(worker)
end
for _, worker in ipairs(redis.call('ZRANGE', key_pool_prefetch(pool_id), 0, -1)) do
  redis.call('DEL', key_slots(pool_id .. '/' .. worker))
  redis.call('ZREM', key_audits(), pool_id .. '/' .. worker)
  leave_inbox(worker)
end
redis.call('DEL', key_pool_free(pool_id), key_pool_prefetch(pool_id))
-- After the workers are forgotten: nothing is offered any more.
settle(retention, kept)
if #run_ids == 0 and not successor then redis.call('ZREM', key_due(), pool) end
return #run_ids
