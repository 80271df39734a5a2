-- runs: Move a run from state to state; every move is one event, every slot is given back with the move that frees it.
--
-- USES      pool pool_finished pool_free pool_in_flight queue queue_free queue_in_flight related run slots slots_in_flight waiting
-- RETURNS   read_run, related_to, move_run, release_run, finish_run, put_back_run, refresh_free, settle, free_touched
-- COST      O(log runs) a move
-- RULE      services.dispatcher.rules.next_state

local RUN_FIELDS = { 'state', 'name', 'queue_id', 'due', 'seq', 'pool_id', 'worker', 'boot', 'token', 'epoch', 'run_count' }

-- The run as a table with its id, or nil when it does not exist.
local function read_run(run_id)
  local values = redis.call('HMGET', key_run(run_id), unpack(RUN_FIELDS))
  if not values[2] then return nil end
  local run = { id = run_id }
  for index, field in ipairs(RUN_FIELDS) do run[field] = values[index] end
  -- A run that was only submitted keeps neither state nor seq: what waits by the million must be small.
  run.state = run.state or 'SCHEDULED'
  run.seq = tonumber(run.seq or 1)
  run.run_count = tonumber(run.run_count or 0)
  return run
end

-- What an event of a run is related to: its queue and its pool, by the names they have now.
local function related_to(pool_id, queue_id)
  local pool = redis.call('HMGET', key_pool(pool_id), 'name', 'type')
  local queue_name = redis.call('HGET', key_queue(queue_id), 'name')
  return '[{"prefect.resource.id":"prefect.work-queue.' .. queue_id .. '","prefect.resource.role":"work-queue",' ..
    '"prefect.resource.name":' .. (queue_name or '""') .. '},{"prefect.resource.id":"prefect.work-pool.' .. pool_id ..
    '","prefect.resource.role":"work-pool","prefect.resource.name":' .. (pool[1] or '""') ..
    ',"prefect.work-pool.type":' .. (pool[2] or '""') .. '}]'
end

-- The same as the last claim from the queue saw it: what is in flight outlives the queue's and the pool's definition.
local relations = {}
local function relation(run)
  if not relations[run.queue_id] then
    relations[run.queue_id] = redis.call('GET', key_related(run.queue_id)) or related_to(run.pool_id or '', run.queue_id)
  end
  return relations[run.queue_id]
end

local state_timestamp = now_iso:sub(1, -2) .. '+00:00'
local TITLES = { SCHEDULED = 'Scheduled', PENDING = 'Pending', RUNNING = 'Running', COMPLETED = 'Completed',
  FAILED = 'Failed', CRASHED = 'Crashed', CANCELLING = 'Cancelling', CANCELLED = 'Cancelled' }

-- Publish the event of a move; from is nil for a new run. Counts run.seq up; the caller stores it with the state.
local function move_run(run, from, to, message)
  local resource_id = 'prefect.flow-run.' .. run.id
  local said = cjson.encode(message)
  local follows = run.seq > 0 and event_id(resource_id, run.seq) or nil
  run.seq = run.seq + 1
  append_event(run.seq, resource_id, 'prefect.flow-run.' .. TITLES[to],
    '{"prefect.resource.id":"' .. resource_id .. '","prefect.resource.name":' .. cjson.encode(run.name) ..
    ',"prefect.run-count":"' .. run.run_count .. '","prefect.state-message":' .. said .. ',"prefect.state-name":"' ..
    TITLES[to] .. '","prefect.state-timestamp":"' .. state_timestamp .. '","prefect.state-type":"' .. to .. '"}',
    run.related or relation(run),
    '{"intended":{"from":' .. (from and '"' .. from .. '"' or 'null') .. ',"to":"' .. to .. '"},"initial_state":' ..
    (from and '{"type":"' .. from .. '","name":"' .. TITLES[from] .. '"}' or 'null') .. ',"validated_state":{"type":"' ..
    to .. '","name":"' .. TITLES[to] .. '"' .. (message ~= '' and ',"message":' .. said or '') .. '}}',
    follows)
end

-- Workers whose free slots changed in this script: '<pool id>/<name>' -> {pool id, name}.
local free_touched = {}

-- Offer the free slots a worker has now: announced slots minus the runs it holds.
local function refresh_free(pool_id, worker)
  local ident = pool_id .. '/' .. worker
  local about = redis.call('HMGET', key_slots(ident), 'slots', 'queue_ids')
  if not about[1] then return end
  local free = tonumber(about[1]) - redis.call('SCARD', key_slots_in_flight(ident))
  local function offer(key)
    if free > 0 then redis.call('ZADD', key, free, worker) else redis.call('ZREM', key, worker) end
  end
  if about[2] == '*' then offer(key_pool_free(pool_id)) end
  for queue_id in about[2]:gmatch('[^*,]+') do
    if redis.call('EXISTS', key_queue(queue_id)) == 1 then offer(key_queue_free(queue_id)) end
  end
end

-- Give back the slots a run holds in its pool, its queue and its worker.
local function release_run(run)
  redis.call('ZREM', key_pool_in_flight(run.pool_id), run.id)
  redis.call('ZREM', key_queue_in_flight(run.queue_id), run.id)
  local ident = run.pool_id .. '/' .. run.worker
  redis.call('SREM', key_slots_in_flight(ident), run.id)
  free_touched[ident] = { run.pool_id, run.worker }
end

-- Pools whose history grew in this script.
local finished_touched = {}

-- Bring a run to a terminal state: it holds nothing any more and expires with its pool's history.
local function finish_run(run, to, message, ended_ms, retention_seconds)
  move_run(run, run.state, to, message)
  redis.call('HSET', key_run(run.id), 'state', to, 'seq', run.seq, 'run_count', run.run_count, 'message', message,
    'ended', ended_ms)
  redis.call('EXPIRE', key_run(run.id), retention_seconds)
  redis.call('ZADD', key_pool_finished(run.pool_id), now_ms, run.id)
  finished_touched[run.pool_id] = true
  run.state = to
end

-- Once at the end of a script: offer the slots that were freed, bound the histories that grew.
local function settle(retention_seconds, kept)
  for _, touched in pairs(free_touched) do refresh_free(touched[1], touched[2]) end
  for pool_id in pairs(finished_touched) do
    local finished = key_pool_finished(pool_id)
    redis.call('EXPIRE', finished, retention_seconds)
    -- At most a thousand a call: after the bound was lowered, Redis must not stand still for all of them at once.
    for _ = 1, math.min(1000, redis.call('ZCARD', finished) - tonumber(kept)) do
      redis.call('DEL', key_run(redis.call('ZPOPMIN', finished)[1]))
    end
  end
end

-- Return a claimed run to the place in its queue that it had, which is the head of what waits there. Where its queue was deleted
-- meanwhile, nobody would ever look at it again: it is cancelled like what waited there.
local function put_back_run(run, message, retention_seconds)
  if redis.call('EXISTS', key_queue(run.queue_id)) == 0 then
    finish_run(run, 'CANCELLED', 'Its work queue was deleted', string.format('%.0f', now_ms), retention_seconds)
    redis.call('HDEL', key_run(run.id), 'token')
    return
  end
  move_run(run, run.state, 'SCHEDULED', message)
  redis.call('HSET', key_run(run.id), 'state', 'SCHEDULED', 'seq', run.seq, 'message', message)
  redis.call('HDEL', key_run(run.id), 'token', 'worker', 'boot', 'claimed', 'started')
  redis.call('ZADD', key_waiting(run.queue_id), run.due, run.id)
  run.state = 'SCHEDULED'
end
