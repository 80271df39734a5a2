-- changes: Write definitions that differ, with the event of each change.
--
-- USES      event_ledger pool pool_queues queue
-- RETURNS   publish_pool(pool, verb, related, payload), publish_pool_status(pool), default_queue_related(pool),
--           publish_queue(pool, queue, verb, payload), publish_queue_status(pool, queue), forget(resource_id),
--           write(key, record, fields), set_paused(key, record, is_paused), differing(record, changes),
--           updates_json(record, fields), change_pool(pool, changes), change_queue(pool, queue, changes)
-- COST      O(fields)
-- RULE      none

local STATUS_VERBS = { READY = 'ready', NOT_READY = 'not-ready', PAUSED = 'paused' }

local function publish_pool(pool, verb, related, payload)
  publish_event('prefect.work-pool.' .. pool.id, 'prefect.work-pool.' .. verb,
    pool_resource(pool.id, pool.name, pool.type, true), related, payload)
end

local function publish_pool_status(pool)
  publish_status('prefect.work-pool.' .. pool.id, 'prefect.work-pool.' .. STATUS_VERBS[pool_status(pool)],
    pool_resource(pool.id, pool.name, pool.type, false), '[]')
end

local function publish_queue(pool, queue, verb, payload)
  publish_event('prefect.work-queue.' .. queue.id, 'prefect.work-queue.' .. verb, queue_resource(queue.id, queue.name),
    '[' .. pool_resource(pool.id, pool.name, pool.type, true) .. ']', payload or '{}')
end

local function publish_queue_status(pool, queue)
  publish_queue(pool, queue, STATUS_VERBS[queue_status(pool, queue)])
end

-- What the first and the last event of a pool are related to.
local function default_queue_related(pool)
  return '[{"prefect.resource.id":"prefect.work-queue.' .. cjson.decode(pool.default_queue_id) ..
    '","prefect.resource.role":"default-queue"}]'
end

-- Ids are never used twice, so nothing follows the last event of what was deleted.
local function forget(resource_id)
  redis.call('HDEL', key_event_ledger(), resource_id, resource_id .. '|status')
end

-- Writes fields, a list of names and JSON texts in turn, into a hash and its record.
local function write(key, record, fields)
  for index = 1, #fields, 2 do record[fields[index]] = fields[index + 1] end
  record.updated = '"' .. now_iso .. '"'
  redis.call('HSET', key, 'updated', record.updated, unpack(fields))
end

-- False when it was so already.
local function set_paused(key, record, is_paused)
  if record.is_paused == is_paused then return false end
  write(key, record, { 'is_paused', is_paused })
  return true
end

-- Those of the changes, a list of names and JSON texts in turn, that differ from the record.
local function differing(record, changes)
  local fields = {}
  for index = 1, #changes, 2 do
    if record[changes[index]] ~= changes[index + 1] then
      table.insert(fields, changes[index])
      table.insert(fields, changes[index + 1])
    end
  end
  return fields
end

-- What runs get may be secret, and events are for everybody: that it changed is told, what it is is not.
local UNTOLD = { parameters = true, job_variables = true }

-- The payload of the `updated` event for fields that differ; asked before they are written.
local function updates_json(record, fields)
  local names, updates = {}, {}
  for index = 1, #fields, 2 do
    local name = fields[index]
    table.insert(names, '"' .. name .. '"')
    if not UNTOLD[name] then table.insert(updates, '"' .. name .. '":{"from":' .. record[name] .. ',"to":' .. fields[index + 1] .. '}') end
  end
  return '{"updated_fields":[' .. table.concat(names, ',') .. '],"updates":{' .. table.concat(updates, ',') .. '}}'
end

-- Writes what differs and returns the payload of the `updated` event, or nil when nothing does.
local function apply(key, record, changes)
  local fields = differing(record, changes)
  if #fields == 0 then return nil end
  local payload = updates_json(record, fields)
  write(key, record, fields)
  return payload
end

-- changes is a list of names and JSON texts in turn; returns whether anything differed.
local function change_pool(pool, changes)
  local payload = apply(key_pool(pool.id), pool, changes)
  if payload then publish_pool(pool, 'updated', '[]', payload) end
  return payload ~= nil
end

-- The same for a queue; a changed priority also moves it among its pool's queues.
local function change_queue(pool, queue, changes)
  local before = queue.priority
  local payload = apply(key_queue(queue.id), queue, changes)
  if payload then publish_queue(pool, queue, 'updated', payload) end
  if queue.priority ~= before then redis.call('ZADD', key_pool_queues(pool.id), queue.priority, queue.id) end
  return payload ~= nil
end
