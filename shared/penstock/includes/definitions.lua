-- definitions: Find pools and queues, spell them as replies do, refuse what does not exist, tell readers what changed.
--
-- USES      definitions last_applied pool pool_online pool_online_any pool_queue_names pool_queues pools queue queue_online
-- CONSTANTS DEFINITIONS_MAX_LENGTH LAST_APPLIED_EXPIRE_SECONDS
-- RETURNS   settled(command_id, deadline, entry, again, of), carried_out(command_id, result), find_pool(name), announce_pool(pool),
--           find_queue(pool, name), queues_of(pool), pool_status(pool), queue_status(pool, queue), pool_json(pool), announce(type, body),
--           queue_json(pool, queue), refuse_pool(command_id, name), refuse_queue(command_id, pool, name)
-- COST      O(queues of the pool) to spell a pool or list its queues, else O(1)
-- RULE      services.pool_registry.rules.is_overtaken, pool_status, queue_status

local function is_overtaken(entry, newest)
  local ms, number = entry:match('(%d+)-(%d+)')
  local newest_ms, newest_number = newest:match('(%d+)-(%d+)')
  return ms == newest_ms and tonumber(number) < tonumber(newest_number) or tonumber(ms) < tonumber(newest_ms)
end

local newest_
-- The answer of a command that must not be executed: it was before, its deadline has passed, or it was handed out before and a newer
-- one about the same thing was executed since; that is not remembered, as it may be sent again. Else nil.
local function settled(command_id, deadline, entry, again, of)
  local earlier = earlier_answer(command_id)
  if earlier then return send_answer(command_id, earlier) end
  if expired(deadline) then
    return refuse(command_id, 'expired', 'the deadline had passed before the command was read; nothing was changed',
      'send it again with a later deadline')
  end
  local newest = redis.call('GET', key_last_applied(of))
  local older = newest and entry ~= '' and is_overtaken(entry, newest)
  if older and again == '1' then
    local kind, name = of:match('^(.-)/(.*)$')
    return push_refusal(command_id, 'overtaken', 'a newer command about ' .. kind .. " '" .. name ..
      "' was carried out before this one's turn; nothing was changed", 'send it again if it is still wanted')
  end
  if entry ~= '' and not older then newest_ = { of = of, entry = entry } end
  return nil
end

-- The answer of a command that was executed; result is a JSON text.
local function carried_out(command_id, result)
  if newest_ then redis.call('SET', key_last_applied(newest_.of), newest_.entry, 'EX', LAST_APPLIED_EXPIRE_SECONDS) end
  return accept(command_id, result)
end

-- A record is the hash as a table, plus its id. Its values are JSON texts, but for the pool_id of a queue.
local function read_record(key, id)
  local flat = redis.call('HGETALL', key)
  local record = { id = id }
  for index = 1, #flat, 2 do record[flat[index]] = flat[index + 1] end
  return record
end

local function find_pool(name)
  local id = redis.call('HGET', key_pools(), name)
  return id and read_record(key_pool(id), id) or nil
end

local function find_queue(pool, name)
  local id = redis.call('HGET', key_pool_queue_names(pool.id), name)
  return id and read_record(key_queue(id), id) or nil
end

local function queues_of(pool)
  local queues = {}
  for index, id in ipairs(redis.call('ZRANGE', key_pool_queues(pool.id), 0, -1)) do
    queues[index] = read_record(key_queue(id), id)
  end
  return queues
end

local function status_of(record, served)
  if record.is_paused == 'true' then return 'PAUSED' end
  return served > 0 and 'READY' or 'NOT_READY'
end

local function pool_status(pool)
  return status_of(pool, redis.call('SCARD', key_pool_online(pool.id)))
end

local function queue_status(pool, queue)
  return status_of(queue,
    redis.call('SCARD', key_pool_online_any(pool.id)) + redis.call('SCARD', key_queue_online(queue.id)))
end

local function fields_json(record, names)
  local parts = {}
  for index, name in ipairs(names) do parts[index] = ',"' .. name .. '":' .. record[name] end
  return table.concat(parts)
end

local function queue_json(pool, queue)
  return '{"id":"' .. queue.id .. '","pool":' .. pool.name .. ',"status":"' .. queue_status(pool, queue) .. '"' ..
    fields_json(queue, { 'name', 'description', 'priority', 'concurrency_limit', 'is_paused', 'created', 'updated' }) .. '}'
end

local function pool_json(pool)
  local queues = {}
  for index, queue in ipairs(queues_of(pool)) do queues[index] = queue_json(pool, queue) end
  return '{"id":"' .. pool.id .. '","status":"' .. pool_status(pool) .. '"' ..
    fields_json(pool, { 'name', 'type', 'description', 'is_paused', 'concurrency_limit', 'base_job_template',
      'on_worker_lost', 'max_attempts', 'default_queue_id', 'created', 'updated' }) ..
    ',"queues":[' .. table.concat(queues, ',') .. ']}'
end

-- Few names are a better hint than a command that lists them.
local function names_hint(key, command)
  local count = redis.call('HLEN', key)
  if count == 0 or count > 10 then return '`' .. command .. '` lists what exists' end
  local names = redis.call('HKEYS', key)
  table.sort(names)
  return 'there is: ' .. table.concat(names, ', ')
end

local function refuse_pool(command_id, name)
  return refuse(command_id, 'not_found', "there is no pool '" .. name .. "'", names_hint(key_pools(), 'penstock work-pool ls'))
end

local function refuse_queue(command_id, pool, name)
  return refuse(command_id, 'not_found', 'pool ' .. pool.name .. " has no queue '" .. name .. "'",
    names_hint(key_pool_queue_names(pool.id), 'penstock work-queue ls'))
end

-- body is what follows the type in the message, a JSON text that begins with a comma.
local function announce(type, body)
  redis.call('XADD', key_definitions(), 'MAXLEN', '~', DEFINITIONS_MAX_LENGTH, '*', 'type', type, '__data__',
    '{"type":"' .. type .. '"' .. body .. '}')
end

local function announce_pool(pool)
  announce('pool.changed', ',"pool_id":"' .. pool.id .. '","pool":' .. pool.name)
end
