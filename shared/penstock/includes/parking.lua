-- parking: Put aside what waits for the limit of its deployment, so that it hides nothing behind it, and take it back.
--
-- USES      deployment deployment_in_flight deployment_parked due parked pool queue queue_parked waiting
-- RETURNS   park(queue_id, deployment_id, run_id, due), unpark(deployment_id, most, only) -> number of runs,
--           unpark_queue(queue_id, most)
-- COST      O(log runs) a run
-- RULE      services.dispatcher.rules.plan_claims

local function park(queue_id, deployment_id, run_id, due)
  redis.call('ZREM', key_waiting(queue_id), run_id)
  redis.call('ZADD', key_parked(queue_id .. '/' .. deployment_id), due, run_id)
  redis.call('SADD', key_queue_parked(queue_id), deployment_id)
  redis.call('SADD', key_deployment_parked(deployment_id), queue_id)
end

-- Let parked runs wait in their queues again, in each as many as their deployment has room for, at most `most`. Those that find
-- no room when their turn comes are parked again. Given one queue, only there.
local function unpark(deployment_id, most, only)
  local limit = tonumber(redis.call('HGET', key_deployment(deployment_id), 'concurrency_limit') or '')
  if limit then most = math.min(most, limit - redis.call('ZCARD', key_deployment_in_flight(deployment_id))) end
  local moved = 0
  local queues = most > 0 and (only and { only } or redis.call('SMEMBERS', key_deployment_parked(deployment_id))) or {}
  for _, queue_id in ipairs(queues) do
    local parked = key_parked(queue_id .. '/' .. deployment_id)
    local rows = redis.call('ZRANGE', parked, 0, most - 1, 'WITHSCORES')
    for index = 1, #rows, 2 do redis.call('ZADD', key_waiting(queue_id), rows[index + 1], rows[index]) end
    redis.call('ZREMRANGEBYRANK', parked, 0, #rows / 2 - 1)
    moved = moved + #rows / 2
    if redis.call('EXISTS', parked) == 0 then
      redis.call('SREM', key_deployment_parked(deployment_id), queue_id)
      redis.call('SREM', key_queue_parked(queue_id), deployment_id)
    end
    local pool_id = #rows > 0 and redis.call('HGET', key_queue(queue_id), 'pool_id')
    local name = pool_id and redis.call('HGET', key_pool(pool_id), 'name')
    -- The due clock looks at the pool even where the caller does not.
    if name then redis.call('ZADD', key_due(), 'LT', now_text, cjson.decode(name)) end
  end
  return moved
end

-- The same for every deployment that has runs parked in a queue: whatever made room, a claim finds it. In other queues they stay
-- aside: one that is served before them may take the room, and what waits without any may be cancelled for that (cancel_new).
local function unpark_queue(queue_id, most)
  for _, deployment_id in ipairs(redis.call('SMEMBERS', key_queue_parked(queue_id))) do unpark(deployment_id, most, queue_id) end
end
