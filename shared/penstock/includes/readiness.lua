-- readiness: Which pools and queues an ONLINE worker serves, and the event when that changes.
--
-- USES      pool pool_online pool_online_any pool_queue_names pool_queues queue queue_online
-- RETURNS   load_pool(pool_id), readiness(pool), publish_readiness(pool, before), bind_worker(pool, name, queues, online)
-- COST      O(queues of the pool)
-- RULE      services.heartbeat_monitor.rules.pool_status, queue_status, serves

local pools_ = {}

-- A pool with its queues by priority, read once per script; nil if it does not exist. Its own name and type are JSON texts.
local function load_pool(pool_id)
  if pools_[pool_id] then return pools_[pool_id] end
  local fields = redis.call('HMGET', key_pool(pool_id), 'name', 'type', 'is_paused')
  if not fields[1] then return nil end
  local pool = { id = pool_id, name = fields[1], type = fields[2], is_paused = fields[3] == 'true', queues = {} }
  local names, ids = {}, redis.call('HGETALL', key_pool_queue_names(pool_id))
  for index = 1, #ids, 2 do names[ids[index + 1]] = ids[index] end
  for index, queue_id in ipairs(redis.call('ZRANGE', key_pool_queues(pool_id), 0, -1)) do
    pool.queues[index] = { id = queue_id, name = names[queue_id] }
  end
  pools_[pool_id] = pool
  return pool
end

-- What is served now; while somebody serves every queue, the queues' own sets need not be looked at.
local function readiness(pool)
  local served = { pool = redis.call('SCARD', key_pool_online(pool.id)) > 0, queues = {} }
  local any = redis.call('SCARD', key_pool_online_any(pool.id)) > 0
  for _, queue in ipairs(pool.queues) do
    served.queues[queue.id] = any or redis.call('SCARD', key_queue_online(queue.id)) > 0
  end
  return served
end

-- Publishes what differs from before: the pool first, then its queues by priority. What is paused keeps silent.
local function publish_readiness(pool, before)
  local after = readiness(pool)
  if after.pool ~= before.pool and not pool.is_paused then
    publish_status('prefect.work-pool.' .. pool.id, 'prefect.work-pool.' .. (after.pool and 'ready' or 'not-ready'),
      pool_resource(pool.id, pool.name, pool.type, false), '[]')
  end
  for _, queue in ipairs(pool.queues) do
    local ready = after.queues[queue.id]
    local fields = ready ~= before.queues[queue.id] and redis.call('HMGET', key_queue(queue.id), 'name', 'is_paused')
    if fields and fields[2] == 'false' then
      publish_event('prefect.work-queue.' .. queue.id, 'prefect.work-queue.' .. (ready and 'ready' or 'not-ready'),
        queue_resource(queue.id, fields[1]), '[' .. pool_resource(pool.id, pool.name, pool.type, true) .. ']', '{}')
    end
  end
end

-- Puts a worker into exactly the sets it belongs to; true if that changed anything. queues is a JSON array of names.
local function bind_worker(pool, name, queues, online)
  local changed, wanted = 0, {}
  for _, queue_name in ipairs(cjson.decode(queues)) do wanted[queue_name] = true end
  local function put(key, belongs) changed = changed + redis.call(belongs and 'SADD' or 'SREM', key, name) end
  put(key_pool_online(pool.id), online)
  put(key_pool_online_any(pool.id), online and next(wanted) == nil)
  for _, queue in ipairs(pool.queues) do put(key_queue_online(queue.id), online and wanted[queue.name]) end
  return changed > 0
end
