-- runs: Read runs and move them from state to state; every move is one event and one line of the run's history.
--
-- USES      deployment logs pool queue related run
-- CONSTANTS REMEMBERED_MS
-- RETURNS   read_run, related_to, move_run, relation, is_terminal, forget_run(run_id, ended_ms)
-- COST      O(1) a move
-- RULE      services.dispatcher.rules.next_state

-- Of a very long history the latest part is kept.
local HISTORY_BYTES = 4000
local HISTORY_MESSAGE_BYTES = 200

-- Packed (includes/packing.lua) -> id of a queue.
local queue_ids_ = setmetatable({}, { __index = function(known, packed)
  local id = ('%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x'):format(packed:byte(1, 16))
  known[packed] = id
  return id
end })

-- The run as a table with its id, or nil when it does not exist. A run that was only submitted keeps neither state nor seq: what
-- waits by the million must be small. Spelled field by field: a table that grows in a loop costs as much as the command.
local function read_run(run_id)
  local f = redis.call('HMGET', key_run(run_id), 'state', 'name', 'queue', 'due', 'seq', 'pool_id', 'worker', 'boot', 'token',
    'epoch', 'run_count', 'deployment_id', 'auto', 'key', 'retry', 'label', 'history')
  if not f[2] then return nil end
  return { id = run_id, state = f[1] or 'SCHEDULED', name = f[2], queue_id = queue_ids_[f[3]], due = f[4] or nil, seq = tonumber(f[5] or 1),
    pool_id = f[6] or nil, worker = f[7] or nil, boot = f[8] or nil, token = f[9] or nil, epoch = f[10] or nil,
    run_count = tonumber(f[11] or 0), deployment_id = f[12] or nil, auto = f[13] or nil, key = f[14] or nil, retry = f[15] or nil,
    label = f[16] or nil, history = f[17] or nil }
end

-- Its submission may still be delivered once more, and must not make it anew: for a while is kept that it was there.
local function forget_run(run_id, ended_ms)
  redis.call('DEL', key_run(run_id), key_logs(run_id))
  if now_ms - tonumber(ended_ms) < REMEMBERED_MS then
    redis.call('HSET', key_run(run_id), 'gone', '1')
    redis.call('PEXPIRE', key_run(run_id), REMEMBERED_MS)
  end
end

local function is_terminal(state)
  return state == 'COMPLETED' or state == 'FAILED' or state == 'CRASHED' or state == 'CANCELLED'
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

-- Flow and deployment of a run as its events name them, with a comma behind; '' for a run of none. Kept for the whole script.
local deployed = {}
local function deployed_part(run)
  local id = run.deployment_id
  if not id then return '' end
  if not deployed[id] then
    local about = redis.call('HMGET', key_deployment(id), 'flow_id', 'flow', 'label')
    deployed[id] = (about[1] and '{"prefect.resource.id":"prefect.flow.' .. about[1]:sub(2, -2) ..
      '","prefect.resource.role":"flow","prefect.resource.name":' .. about[2] .. '},' or '') ..
      '{"prefect.resource.id":"prefect.deployment.' .. id .. '","prefect.resource.role":"deployment","prefect.resource.name":' ..
      (about[3] or '""') .. '},'
  end
  return deployed[id]
end

-- Queue and pool as the last claim from the queue saw them: what is in flight outlives the queue's and the pool's definition.
local relations = {}
-- Most messages are empty, and most names come more than once in a script.
local quoted = setmetatable({}, { __index = function(known, text)
  local json = cjson.encode(text)
  known[text] = json
  return json
end })
local function relation(run)
  if not run.related then
    relations[run.queue_id] = relations[run.queue_id] or redis.call('GET', key_related(run.queue_id)) or
      related_to(run.pool_id or '', run.queue_id)
    run.related = relations[run.queue_id]
  end
  if not run.deployment_id then return run.related end
  local both = run.deployment_id .. run.queue_id
  relations[both] = relations[both] or '[' .. deployed_part(run) .. run.related:sub(2)
  return relations[both]
end

local state_timestamp = now_iso:sub(1, -2) .. '+00:00'
local TITLES = { SCHEDULED = 'Scheduled', PENDING = 'Pending', RUNNING = 'Running', COMPLETED = 'Completed',
  FAILED = 'Failed', CRASHED = 'Crashed', CANCELLING = 'Cancelling', CANCELLED = 'Cancelled' }

-- Adds a move to run.history: comma, then a JSON array. The caller stores it with the state.
local function remember(run, to, message, label)
  if #message > HISTORY_MESSAGE_BYTES then
    -- Not in the middle of a character.
    message = message:sub(1, HISTORY_MESSAGE_BYTES):gsub('[\192-\255][\128-\191]*$', '')
  end
  run.history = (run.history or '') .. ',["' .. to .. '",' .. now_text ..
    ((message ~= '' or label) and ',' .. quoted[message] or '') .. (label and ',"' .. label .. '"' or '') .. ']'
  while #run.history > HISTORY_BYTES do
    -- Inside a text the quote would be escaped.
    local second = run.history:find(',["', 2, true)
    run.history = run.history:sub(second)
  end
end

-- Publish the event of a move; from is nil for a new run, label a name of the state other than its usual one. Counts run.seq up and
-- writes run.event_id, run.history and run.label; the caller stores the last two with the state.
local function move_run(run, from, to, message, label)
  local resource_id = 'prefect.flow-run.' .. run.id
  local said = quoted[message]
  local title = label or TITLES[to]
  local follows = run.seq > 0 and (run.event_id or event_id(resource_id, run.seq)) or nil
  run.seq = run.seq + 1
  run.event_id = event_id(resource_id, run.seq)
  -- In one expression: Lua reads each text that it makes from one end to the other.
  store_event('prefect.flow-run.' .. (label or TITLES[to]), '{"id":"' .. run.event_id .. '","occurred":"' .. now_iso ..
    '","event":"prefect.flow-run.' .. title .. '","resource":{"prefect.resource.id":"' .. resource_id ..
    '","prefect.resource.name":' .. quoted[run.name] .. ',"prefect.run-count":"' .. digits[run.run_count] ..
    '","prefect.state-message":' .. said .. ',"prefect.state-name":"' .. title .. '","prefect.state-timestamp":"' ..
    state_timestamp .. '","prefect.state-type":"' .. to .. '"},"related":' .. relation(run) ..
    ',"payload":{"intended":{"from":' .. (from and '"' .. from .. '"' or 'null') .. ',"to":"' .. to .. '"},"initial_state":' ..
    (from and '{"type":"' .. from .. '","name":"' .. (run.label or TITLES[from]) .. '"}' or 'null') ..
    ',"validated_state":{"type":"' .. to .. '","name":"' .. title .. '"' .. (message ~= '' and ',"message":' .. said or '') ..
    '}},"follows":' .. (follows and '"' .. follows .. '"' or 'null') .. ',"seq":' .. digits[run.seq] .. '}')
  if from then remember(run, to, message, label) end
  run.label = label
end
