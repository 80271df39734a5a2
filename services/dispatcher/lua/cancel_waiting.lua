-- cancel_waiting: Cancel what waits in a queue that was deleted, a bounded number at a time.
--
-- KEYS      events       STREAM  the partition's events
-- ARGV      pool_id      uuid of the pool
-- ARGV      queue_id     uuid of the deleted queue
-- ARGV      related      JSON array of the event's related resources; the definitions are gone
-- ARGV      message      why, for the events and the runs
-- ARGV      max_runs     how many at most in this call
-- ARGV      retention    seconds a finished run is kept
-- ARGV      kept         how many finished runs a pool keeps
-- USES      idempotency parked queue_free queue_parked related waiting
-- INCLUDES  clock events runs parking sets slots
-- RETURNS   number of runs cancelled; 0 means nothing waits any more
-- COST      O(log waiting) a run
-- RULE      none
local _ = events

-- What waits there, then deployment by deployment what is parked there.
local function next_runs()
  local found = redis.call('ZRANGE', key_waiting(queue_id), 0, tonumber(max_runs) - 1)
  if #found > 0 then return found end
  for _, deployment_id in ipairs(redis.call('SMEMBERS', key_queue_parked(queue_id))) do
    found = redis.call('ZRANGE', key_parked(queue_id .. '/' .. deployment_id), 0, tonumber(max_runs) - 1)
    if #found > 0 then return found, deployment_id end
  end
  redis.call('DEL', key_queue_parked(queue_id))
  return found
end

local run_ids, deployment_id = next_runs()
for _, run_id in ipairs(run_ids) do
  local run = read_run(run_id)
  if run then
    run.related, run.pool_id = related, pool_id
    leave_queue(run)
    -- A schedule makes its future runs again where the queue or pool comes back.
    if run.key and run.auto then redis.call('DEL', key_idempotency(run.key)) end
    finish_run(run, 'CANCELLED', message, now_text, retention)
  end
  redis.call('ZREM', key_waiting(queue_id), run_id)
  if deployment_id then redis.call('ZREM', key_parked(queue_id .. '/' .. deployment_id), run_id) end
end
settle(retention, kept)
if #run_ids == 0 then
  redis.call('DEL', key_queue_free(queue_id))
  redis.call('EXPIRE', key_related(queue_id), retention)
end
return #run_ids
