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
-- USES      queue_free related run waiting
-- INCLUDES  clock events runs
-- RETURNS   number of runs cancelled; 0 means nothing waits any more
-- COST      O(log waiting) a run
-- RULE      none
local _ = events
local run_ids = redis.call('ZRANGE', key_waiting(queue_id), 0, tonumber(max_runs) - 1)
for _, run_id in ipairs(run_ids) do
  redis.call('ZREM', key_waiting(queue_id), run_id)
  local run = read_run(run_id)
  if run then
    run.related, run.pool_id = related, pool_id
    redis.call('HSET', key_run(run.id), 'pool_id', pool_id)
    finish_run(run, 'CANCELLED', message, string.format('%.0f', now_ms), retention)
  end
end
settle(retention, kept)
if #run_ids == 0 then
  redis.call('DEL', key_queue_free(queue_id))
  redis.call('EXPIRE', key_related(queue_id), retention)
end
return #run_ids
