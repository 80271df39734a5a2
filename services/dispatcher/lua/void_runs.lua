-- void_runs: Remove future runs that their schedule, as it is defined now, would not make.
--
-- KEYS      events         STREAM  the partition's events
-- ARGV      deployment_id  uuid of the deployment; one that has moved to another partition is not defined here any more
-- ARGV      message        why, for the events
-- ARGV      skip           how many runs were left alone by earlier calls
-- ARGV      max_runs       how many are looked at in this call
-- USES      deployment deployment_waiting queue
-- INCLUDES  clock events runs parking sets slots admission
-- RETURNS   {runs removed, runs left alone}; both 0 means that there are no more
-- COST      O(log waiting) a run
-- RULE      rules.is_void
local _ = events
local about = redis.call('HMGET', key_deployment(deployment_id), 'revision', 'revised_ms')
local since = about[2] or now_text
local found = redis.call('ZRANGEBYSCORE', key_deployment_waiting(deployment_id), '(' .. since, '+inf', 'LIMIT', tonumber(skip),
  tonumber(max_runs))
local removed = 0
for _, run_id in ipairs(found) do
  local run = read_run(run_id)
  if not run then
    redis.call('ZREM', key_deployment_waiting(deployment_id), run_id)
    removed = removed + 1
  elseif run.auto and run.auto:match('^%S+ (%d+)') ~= about[1] and not has_begun(run) then
    -- Without a queue it is cancelled with everything that waits there.
    run.pool_id = redis.call('HGET', key_queue(run.queue_id), 'pool_id')
    if run.pool_id then
      void_run(run, message)
      removed = removed + 1
    end
  end
end
return { removed, #found - removed }
