-- cancel_deployment: Cancel what waits of a deployment that was deleted, a bounded number at a time.
--
-- KEYS      events         STREAM  the partition's events
-- ARGV      deployment_id  uuid of the deleted deployment
-- ARGV      message        why, for the events and the runs
-- ARGV      max_runs       how many at most in this call
-- ARGV      retention      seconds a finished run is kept
-- ARGV      kept           how many finished runs a pool keeps
-- USES      deployment_parked deployment_waiting queue queue_parked
-- INCLUDES  clock events runs parking sets slots
-- RETURNS   number of runs cancelled; 0 means nothing waits any more
-- COST      O(log waiting) a run
-- RULE      none
local _ = events
local run_ids = redis.call('ZRANGE', key_deployment_waiting(deployment_id), 0, tonumber(max_runs) - 1)
for _, run_id in ipairs(run_ids) do
  redis.call('ZREM', key_deployment_waiting(deployment_id), run_id)
  local run = read_run(run_id)
  run = run and run.state == 'SCHEDULED' and run or nil
  local pool_id = run and redis.call('HGET', key_queue(run.queue_id), 'pool_id')
  -- Without a queue it is cancelled with everything that waited there.
  if pool_id then
    run.pool_id = pool_id
    leave_queue(run)
    finish_run(run, 'CANCELLED', message, now_text, retention)
  end
end
if #run_ids == 0 then
  for _, queue_id in ipairs(redis.call('SMEMBERS', key_deployment_parked(deployment_id))) do
    if redis.call('EXISTS', key_queue(queue_id)) == 1 then redis.call('SREM', key_queue_parked(queue_id), deployment_id) end
  end
  redis.call('DEL', key_deployment_parked(deployment_id))
end
settle(retention, kept)
return #run_ids
