-- changes: Write definitions that differ, with the event of each change; make room among priorities.
--
-- USES      event_ledger pool pool_queues queue
-- CONSTANTS MAX_PRIORITY
-- RETURNS   publish_pool(pool, verb, related, payload), publish_pool_status(pool), default_queue_related(pool),
--           publish_queue(pool, queue, verb, payload), publish_queue_status(pool, queue), forget(resource_id),
--           set_paused(key, record, is_paused), change_pool(pool, changes), change_queue(pool, queue, changes),
--           free_priority(pool), make_room(pool, priority, mover), refuse_room(command_id, pool, priority)
-- COST      O(fields), make_room O(shifted queues * log queues), free_priority O(queues)
-- RULE      services.pool_registry.rules.place_priority

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

-- Writes what differs and returns the payload of the `updated` event, or nil when nothing does.
local function apply(key, record, changes)
  local names, updates, fields = {}, {}, {}
  for index = 1, #changes, 2 do
    local name, to = changes[index], changes[index + 1]
    if record[name] ~= to then
      table.insert(names, '"' .. name .. '"')
      table.insert(updates, '"' .. name .. '":{"from":' .. record[name] .. ',"to":' .. to .. '}')
      table.insert(fields, name)
      table.insert(fields, to)
    end
  end
  if #names == 0 then return nil end
  write(key, record, fields)
  return '{"updated_fields":[' .. table.concat(names, ',') .. '],"updates":{' .. table.concat(updates, ',') .. '}}'
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

local function free_priority(pool)
  local free = 1
  local taken = redis.call('ZRANGE', key_pool_queues(pool.id), 0, -1, 'WITHSCORES')
  for index = 2, #taken, 2 do
    if tonumber(taken[index]) > free then break end
    free = free + 1
  end
  return free
end

-- Shifts the unbroken run of taken numbers that begins at priority up by one; the place of the mover, a queue id, is free. False,
-- and nothing is changed, where the last of them would pass the largest number a queue can have.
local function make_room(pool, priority, mover)
  local holders, at = {}, tonumber(priority)
  while true do
    local id = redis.call('ZRANGEBYSCORE', key_pool_queues(pool.id), at, at)[1]
    if not id or id == mover then break end
    table.insert(holders, id)
    at = at + 1
  end
  if at > MAX_PRIORITY then return false end
  for index, id in ipairs(holders) do
    change_queue(pool, read_record(key_queue(id), id),
      { 'priority', string.format('%.0f', tonumber(priority) + index) })
  end
  return true
end

local function refuse_room(command_id, pool, priority)
  return refuse(command_id, 'conflict', 'pool ' .. pool.name .. ' has no room at priority ' .. priority ..
    ': the queues there would be shifted past the largest number, ' .. MAX_PRIORITY, 'choose a smaller number')
end
