-- recall_runs: Take back future runs that a worker got ahead of their time and that their schedule would not make any more.
--
-- KEYS      events         STREAM  the partition's events
-- ARGV      deployment_id  uuid of the deployment; one that has moved to another partition is not defined here any more
-- ARGV      message        why, for the events
-- ARGV      margin         ms; what is due within is left to begin, for it may have begun
-- ARGV      max_runs       how many are looked at
-- USES      deployment deployment_in_flight due pool
-- INCLUDES  clock events runs parking sets slots admission inboxes stopping
-- RETURNS   number of runs removed
-- COST      O(runs of the deployment in flight)
-- RULE      rules.is_void
local _ = events
local revision = redis.call('HGET', key_deployment(deployment_id), 'revision')
-- The change came before now, so what is ahead of this is also ahead of that.
local since = now_ms + tonumber(margin)
local removed, freed = 0, {}
for _, run_id in ipairs(redis.call('ZREVRANGE', key_deployment_in_flight(deployment_id), 0, tonumber(max_runs) - 1)) do
  local run = read_run(run_id)
  if run and run.state == 'PENDING' and run.auto and run.auto:match('^%S+ (%d+)') ~= revision and tonumber(run.due) > since
    and run.run_count == 0 then
    recall_run(run)
    void_run(run, message)
    freed[run.pool_id] = true
    removed = removed + 1
  end
end
for _, touched in pairs(free_touched) do refresh_free(touched[1], touched[2]) end
send_stops()
for pool_id in pairs(freed) do
  -- Nobody else would look: the caller knows no pool of a deployment that has moved, and a recall that comes again frees nothing.
  local name = redis.call('HGET', key_pool(pool_id), 'name')
  if name then redis.call('ZADD', key_due(), 'LT', now_ms, cjson.decode(name)) end
end
return removed
