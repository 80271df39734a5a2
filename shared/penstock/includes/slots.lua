-- slots: What a run holds and gives back: its place in a queue, its slots in pool, queue, deployment and worker, its end.
--
-- USES      cancelling deployment deployment_in_flight deployment_waiting logs parked pool_finished pool_free pool_in_flight queue
-- USES      queue_free queue_in_flight run slots slots_in_flight waiting
-- RETURNS   free_touched, refresh_free, enter_queue, leave_queue, release_run, finish_run, put_back_run, retry_run, unpark_freed, settle
-- COST      O(log runs) a move
-- RULE      services.dispatcher.rules.next_state

-- Workers whose free slots changed in this script: '<pool id>/<name>' -> {pool id, name}.
local free_touched = {}
-- Deployments that have room again, pools whose history grew.
local deployments_freed, finished_touched = {}, {}

-- Offer the free slots a worker has now: announced slots minus the runs it holds; none for a life that is being drained.
local function refresh_free(pool_id, worker)
  write_later()
  local ident = pool_id .. '/' .. worker
  local about = redis.call('HMGET', key_slots(ident), 'slots', 'queue_ids', 'boot_id', 'draining')
  if not about[1] then return end
  local free = about[3] == about[4] and 0 or tonumber(about[1]) - redis.call('SCARD', key_slots_in_flight(ident))
  local function offer(key)
    if free > 0 then redis.call('ZADD', key, free, worker) else redis.call('ZREM', key, worker) end
  end
  if about[2] == '*' then offer(key_pool_free(pool_id)) end
  for queue_id in about[2]:gmatch('[^*,]+') do
    if redis.call('EXISTS', key_queue(queue_id)) == 1 then offer(key_queue_free(queue_id)) end
  end
end

local function enter_queue(run, due)
  redis.call('ZADD', key_waiting(run.queue_id), due, run.id)
  if run.deployment_id then redis.call('ZADD', key_deployment_waiting(run.deployment_id), due, run.id) end
end

-- A run waits no more; it remembers when it was due.
local function leave_queue(run)
  local due = redis.call('ZSCORE', key_waiting(run.queue_id), run.id)
  redis.call('ZREM', key_waiting(run.queue_id), run.id)
  if run.deployment_id then
    local place = run.queue_id .. '/' .. run.deployment_id
    due = due or redis.call('ZSCORE', key_parked(place), run.id)
    redis.call('ZREM', key_parked(place), run.id)
    redis.call('ZREM', key_deployment_waiting(run.deployment_id), run.id)
    -- It may have been the one that was to take the place of a run that ended.
    deployments_freed[run.deployment_id] = true
  end
  run.due = due and string.format('%.0f', tonumber(due)) or run.due
end

-- Give back the slots a run holds in its pool, its queue, its deployment and its worker.
local function release_run(run)
  later('ZREM', key_pool_in_flight(run.pool_id), run.id)
  later('ZREM', key_queue_in_flight(run.queue_id), run.id)
  if run.deployment_id then
    redis.call('ZREM', key_deployment_in_flight(run.deployment_id), run.id)
    deployments_freed[run.deployment_id] = true
  end
  if run.state == 'CANCELLING' then redis.call('ZREM', key_cancelling(), run.id) end
  local ident = run.pool_id .. '/' .. run.worker
  later('SREM', key_slots_in_flight(ident), run.id)
  free_touched[ident] = { run.pool_id, run.worker }
end

-- Bring a run to a terminal state: it holds nothing any more and expires with its output and its pool's history.
local function finish_run(run, to, message, ended_ms, retention_seconds)
  if run.label then redis.call('HDEL', key_run(run.id), 'label') end
  move_run(run, run.state, to, message)
  redis.call('HSET', key_run(run.id), 'state', to, 'seq', digits[run.seq], 'run_count', digits[run.run_count], 'message', message,
    'ended', ended_ms, 'history', run.history, 'pool_id', run.pool_id, 'due', run.due or '')
  redis.call('EXPIRE', key_run(run.id), retention_seconds)
  redis.call('EXPIRE', key_logs(run.id), retention_seconds)
  later('ZADD', key_pool_finished(run.pool_id), run.id)
  finished_touched[run.pool_id] = true
  run.state = to
end

-- Put a claimed run back into its queue, due then. Where that was deleted meanwhile nobody would ever look at it again: false.
local function requeue(run, message, due, label)
  if redis.call('EXISTS', key_queue(run.queue_id)) == 0 then return false end
  move_run(run, run.state, 'SCHEDULED', message, label)
  redis.call('HSET', key_run(run.id), 'state', 'SCHEDULED', 'seq', digits[run.seq], 'message', message, 'history', run.history)
  redis.call('HDEL', key_run(run.id), 'token', 'worker', 'boot', 'claimed', 'started')
  enter_queue(run, due)
  run.state = 'SCHEDULED'
  return true
end

-- Return a claimed run to the place in its queue that it had, which is the head of what waits there.
local function put_back_run(run, message, retention_seconds)
  if not requeue(run, message, run.due) then
    finish_run(run, 'CANCELLED', 'Its work queue was deleted', now_text, retention_seconds)
    redis.call('HDEL', key_run(run.id), 'token')
  end
end

-- Let a run that failed wait for its next attempt; false when it has none left. Its slots are given back before.
local function retry_run(run, message)
  local left, delay = (run.retry or ''):match('^(%d+) (%d+)$')
  -- A run goes on to its end when its deployment is deleted, but it does not begin again.
  if run.deployment_id and redis.call('EXISTS', key_deployment(run.deployment_id)) == 0 then return false end
  if not left or left == '0' or not requeue(run, message, string.format('%.0f', now_ms + tonumber(delay)), 'AwaitingRetry') then
    return false
  end
  redis.call('HSET', key_run(run.id), 'label', 'AwaitingRetry', 'retry', (tonumber(left) - 1) .. ' ' .. delay,
    'run_count', digits[run.run_count])
  return true
end

-- Let the next run try where one has left the queue or given its slot back; the number of runs that may.
local function unpark_freed()
  local moved = 0
  for deployment_id in pairs(deployments_freed) do moved = moved + unpark(deployment_id, 1000) end
  deployments_freed = {}
  return moved
end

-- Once at the end of a script: offer what was freed, bound the histories that grew.
local function settle(retention_seconds, kept)
  write_later()
  for _, touched in pairs(free_touched) do refresh_free(touched[1], touched[2]) end
  unpark_freed()
  for pool_id in pairs(finished_touched) do
    local finished = key_pool_finished(pool_id)
    redis.call('EXPIRE', finished, retention_seconds)
    -- At most a thousand a call: after the bound was lowered, Redis must not stand still for all of them at once.
    for _ = 1, math.min(1000, redis.call('ZCARD', finished) - tonumber(kept)) do
      forget_run(unpack(redis.call('ZPOPMIN', finished)))
    end
  end
end
