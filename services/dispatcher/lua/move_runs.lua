-- move_runs: Let what waits of a deployment wait in the pool and queue it names now.
--
-- KEYS      events         STREAM  the partition's events
-- ARGV      deployment_id  uuid of the deployment
-- ARGV      skip           how many runs were left alone by earlier calls
-- ARGV      max_runs       how many are looked at in this call
-- USES      deployment deployment_waiting due pool_queue_names pools run
-- INCLUDES  clock events runs packing parking sets slots
-- RETURNS   {runs moved, runs left alone}; both 0 means that there are no more
-- COST      O(log waiting) a run
-- RULE      none
local _ = events
local about = redis.call('HMGET', key_deployment(deployment_id), 'pool', 'queue')
local pool = about[1] and cjson.decode(about[1])
local pool_id = pool and redis.call('HGET', key_pools(), pool)
local queue_id = pool_id and redis.call('HGET', key_pool_queue_names(pool_id), cjson.decode(about[2]))
if not queue_id then return { 0, 0 } end
local found = redis.call('ZRANGE', key_deployment_waiting(deployment_id), tonumber(skip), tonumber(skip) + tonumber(max_runs) - 1)
local moved = 0
for _, run_id in ipairs(found) do
  local run = read_run(run_id)
  if run and run.state == 'SCHEDULED' and run.queue_id ~= queue_id then
    leave_queue(run)
    run.queue_id = queue_id
    redis.call('HSET', key_run(run_id), 'queue', pack_id(queue_id))
    enter_queue(run, run.due)
    moved = moved + 1
  end
end
if moved > 0 then redis.call('ZADD', key_due(), 'LT', now_text, pool) end
return { moved, #found - moved }
