-- arrivals: What an accepted heartbeat that says something new makes known.
--
-- USES      commands inbox worker
-- CONSTANTS COMMANDS_MAX_LENGTH
-- RETURNS   is_superseded(known, boot_id), superseded_with(known, kept), come_online(worker, known)
-- COST      O(queues of the pool)
-- RULE      services.heartbeat_monitor.rules.news

-- Every life that was replaced, the latest last. A boot id has no spaces but may be empty, so a space stands in front of each.
local function is_superseded(known, boot_id)
  return ((known.previous_boot_ids or '') .. ' '):find(' ' .. boot_id .. ' ', 1, true) ~= nil
end

-- The same with the present life, the oldest left out where they are more than kept.
local function superseded_with(known, kept)
  local all = (known.previous_boot_ids or '') .. ' ' .. known.boot_id
  local _, count = all:gsub(' ', '')
  for _ = kept + 1, count do all = all:match('^ [^ ]*(.*)$') end
  return all
end

local function create_missing_queues(worker)
  local there = {}
  for _, queue in ipairs(worker.pool.queues) do there[queue.name] = true end
  for _, name in ipairs(cjson.decode(worker.queues)) do
    if not there[name] then
      redis.call('XADD', key_commands(), 'MAXLEN', '~', COMMANDS_MAX_LENGTH, '*', 'type', 'create_queue', '__data__',
        '{"type":"create_queue","id":"","pool":' .. worker.pool.name .. ',"queue":' .. cjson.encode(name) ..
        ',"if_missing":true}')
    end
  end
end

-- An accepted heartbeat whose fields are stored already: tell the world what is new in it. known is the worker before it.
local function come_online(worker, known)
  local back, new_boot = known.status ~= 'ONLINE', worker.boot_id ~= known.boot_id
  local before = readiness(worker.pool)
  if new_boot or not known.started then
    redis.call('HSET', key_worker(worker.ident), 'started', publish_worker(worker, 'prefect.worker.started', '{}'))
  end
  if back then
    redis.call('PERSIST', key_worker(worker.ident))
    redis.call('PERSIST', key_inbox(cjson.decode(worker.pool.name) .. '/' .. worker.name))
    publish_worker(worker, 'penstock.worker.online',
      '{"boot_id":' .. cjson.encode(worker.boot_id) .. ',"slots":' .. worker.slots .. '}')
  end
  local moved = bind_worker(worker.pool, worker.name, worker.queues, true)
  publish_readiness(worker.pool, before)
  if worker.draining == '1' and (back or new_boot or known.draining ~= '1') then
    publish_worker(worker, 'penstock.worker.draining', '{}')
  end
  if back or new_boot or moved or worker.slots ~= known.slots or worker.queues ~= known.queues
    or worker.prefetch_ms ~= known.prefetch_ms or worker.draining ~= known.draining then announce_worker(worker) end
  if new_boot or worker.queues ~= known.queues then create_missing_queues(worker) end
end
