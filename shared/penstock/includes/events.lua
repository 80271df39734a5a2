-- events: Publish an event in the script that makes the transition, so that one exists if and only if the other does.
--
-- USES      event_ledger events
-- CONSTANTS EVENT_NAMESPACE EVENTS_MAX_LENGTH FOLLOWS_WITHIN_MS
-- RETURNS   event_id, store_event, append_event, publish_event, publish_status, pool_resource, queue_resource, worker_resource
-- COST      O(1) an event
-- RULE      penstock.contracts.events.event_id

-- UUID version 5 of '<identity>:<seq>': emitting twice gives the same id twice. The identity is the resource's id, so that anybody
-- can recompute it, unless the resource may count anew one day: then it also says which of its lives this is.
local VARIANTS = {}
for digit = 0, 15 do VARIANTS[string.format('%x', digit)] = string.format('%x', digit % 4 + 8) end

local function event_id(identity, seq)
  local h = redis.sha1hex(EVENT_NAMESPACE .. identity .. ':' .. digits[seq])
  return h:sub(1, 8) .. '-' .. h:sub(9, 12) .. '-5' .. h:sub(14, 16) .. '-' .. VARIANTS[h:sub(17, 17)] .. h:sub(18, 20) ..
    '-' .. h:sub(21, 32)
end

-- json is the whole event.
local function store_event(name, json)
  redis.call('XADD', key_events(), 'MAXLEN', '~', EVENTS_MAX_LENGTH, '*', 'type', name, '__data__', json)
end

-- resource, related and payload are JSON texts; follows is an event id or nil; identity is the resource's id unless given.
local function append_event(seq, resource_id, name, resource, related, payload, follows, identity)
  local id = event_id(identity or resource_id, seq)
  store_event(name, '{"id":"' .. id .. '","occurred":"' .. now_iso .. '","event":"' .. name .. '","resource":' .. resource ..
    ',"related":' .. related .. ',"payload":' .. payload .. ',"follows":' .. (follows and '"' .. follows .. '"' or 'null') ..
    ',"seq":' .. digits[seq] .. '}')
  return id
end

local function publish_event(resource_id, name, resource, related, payload, follows)
  local seq = redis.call('HINCRBY', key_event_ledger(), resource_id, 1)
  return append_event(seq, resource_id, name, resource, related, payload, follows)
end

-- A status event follows the resource's previous status event while that is recent, as Prefect's do.
local function publish_status(resource_id, name, resource, related)
  local last = redis.call('HGET', key_event_ledger(), resource_id .. '|status')
  local follows = nil
  if last then
    local id, at = last:match('^(%S+) (%d+)$')
    if now_ms - tonumber(at) < FOLLOWS_WITHIN_MS then follows = id end
  end
  local id = publish_event(resource_id, name, resource, related, '{}', follows)
  redis.call('HSET', key_event_ledger(), resource_id .. '|status', id .. ' ' .. now_text)
end

-- The JSON of a pool as an event names it. name_json and type_json are JSON texts, as the pool's hash keeps them.
local function pool_resource(pool_id, name_json, type_json, with_role)
  return '{"prefect.resource.id":"prefect.work-pool.' .. pool_id .. '","prefect.resource.name":' .. name_json ..
    ',"prefect.work-pool.type":' .. type_json .. (with_role and ',"prefect.resource.role":"work-pool"' or '') .. '}'
end

local function queue_resource(queue_id, name_json)
  return '{"prefect.resource.id":"prefect.work-queue.' .. queue_id .. '","prefect.resource.name":' .. name_json ..
    ',"prefect.resource.role":"work-queue"}'
end

local function worker_resource(resource_id, name_json, type_json, version_json)
  return '{"prefect.resource.id":"' .. resource_id .. '","prefect.resource.name":' .. name_json ..
    ',"prefect.version":' .. version_json .. ',"prefect.worker-type":' .. type_json .. '}'
end
