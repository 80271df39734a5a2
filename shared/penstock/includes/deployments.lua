-- deployments: Find deployments, spell them as replies do, and write what differs with its event and its message.
--
-- USES      deployment deployments event_ledger schedules
-- RETURNS   whole(number), find_deployment(name), deployment_json(deployment), refuse_deployment(command_id, name),
--           publish_deployment(deployment, verb, payload), announce_deployment(deployment, former_pool),
--           schedule_parts(text), write_schedules(deployment, texts), change_deployment(deployment, changes, schedules)
-- COST      O(fields + schedules)
-- RULE      services.pool_registry.rules.revises, penstock.contracts.events.deployment_identity

local function whole(number)
  return string.format('%.0f', number)
end

-- The text of a schedule begins with its id, and ids grow with time: sorted, texts are in the order of creation.
local function schedules_json(texts)
  table.sort(texts)
  return '[' .. table.concat(texts, ',') .. ']'
end

-- A record (see read_record) with its schedules, as a JSON text like any field and as a list of texts.
local function find_deployment(name)
  local id = redis.call('HGET', key_deployments(), name)
  if not id then return nil end
  local deployment = read_record(key_deployment(id), id)
  deployment.schedule_texts = redis.call('HVALS', key_schedules(id))
  deployment.schedules = schedules_json(deployment.schedule_texts)
  return deployment
end

local function deployment_json(deployment)
  return '{"id":"' .. deployment.id .. '"' .. fields_json(deployment, { 'name', 'flow', 'pool', 'queue', 'entrypoint', 'command',
    'working_dir', 'parameters', 'parameter_schema', 'job_variables', 'tags', 'description', 'version', 'concurrency_limit',
    'collision_strategy', 'retries', 'retry_delay_seconds', 'paused', 'revision', 'revised_ms', 'created', 'updated',
    'schedules' }) .. '}'
end

local function refuse_deployment(command_id, name)
  return refuse(command_id, 'not_found', "there is no deployment '" .. name .. "'",
    names_hint(key_deployments(), 'penstock deployment ls'))
end

-- A deployment refers to its pool and queue by name; either may be gone.
local function related_to_deployment(deployment)
  local related = { '{"prefect.resource.id":"prefect.flow.' .. cjson.decode(deployment.flow_id) ..
    '","prefect.resource.role":"flow","prefect.resource.name":' .. deployment.flow .. '}' }
  local pool = find_pool(cjson.decode(deployment.pool))
  local queue = pool and find_queue(pool, cjson.decode(deployment.queue))
  if queue then table.insert(related, queue_resource(queue.id, queue.name)) end
  if pool then table.insert(related, pool_resource(pool.id, pool.name, pool.type, true)) end
  return '[' .. table.concat(related, ',') .. ']'
end

-- A deployment that moves to another partition keeps its id, and its events are numbered anew: the identity says which life.
local function publish_deployment(deployment, verb, payload)
  local resource_id = 'prefect.deployment.' .. deployment.id
  append_event(redis.call('HINCRBY', key_event_ledger(), resource_id, 1), resource_id, 'prefect.deployment.' .. verb,
    '{"prefect.resource.id":"' .. resource_id .. '","prefect.resource.name":' .. deployment.label .. '}',
    related_to_deployment(deployment), payload, nil, resource_id .. '|' .. cjson.decode(deployment.created))
end

local function announce_deployment(deployment, former_pool)
  announce('deployment.changed', ',"deployment_id":"' .. deployment.id .. '","deployment":' .. deployment.name .. ',"pool":' ..
    deployment.pool .. ',"former_pool":' .. (former_pool or 'null') .. ',"revision":' .. deployment.revision)
end

-- Id, anchor (a JSON text) and all that follows them in the text of a schedule.
local function schedule_parts(text)
  return text:match('^{"id":"([^"]*)","anchor":([^,]*),(.*)$')
end

local function write_schedules(deployment, texts)
  redis.call('DEL', key_schedules(deployment.id))
  for _, text in ipairs(texts) do
    local id = schedule_parts(text)
    redis.call('HSET', key_schedules(deployment.id), id, text)
  end
  deployment.schedules = schedules_json(texts)
end

-- Runs that wait already stay as good as those a schedule would make after such a change.
local KEEPS_RUNS = { description = true, version = true, concurrency_limit = true, collision_strategy = true,
  parameter_schema = true }

-- changes is a list of names and JSON texts in turn; schedules the texts of all there are to be, nil to leave them.
local function change_deployment(deployment, changes, schedules)
  local former = deployment.pool
  local fields = differing(deployment, changes)
  local told = { unpack(fields) }
  local replaced = schedules and schedules_json(schedules) ~= deployment.schedules
  if replaced then
    table.insert(told, 'schedules')
    table.insert(told, schedules_json(schedules))
  end
  if #told == 0 then return end
  local payload, revises = updates_json(deployment, told), false
  for index = 1, #told, 2 do revises = revises or not KEEPS_RUNS[told[index]] end
  if revises then
    for _, part in ipairs({ 'revision', whole(tonumber(deployment.revision) + 1), 'revised_ms', whole(now_ms) }) do
      table.insert(fields, part)
    end
  end
  if replaced then write_schedules(deployment, schedules) end
  write(key_deployment(deployment.id), deployment, fields)
  publish_deployment(deployment, 'updated', payload)
  announce_deployment(deployment, deployment.pool ~= former and former or nil)
end
