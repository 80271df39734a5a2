-- create_pool: Create a pool with its default queue.
--
-- KEYS      events             STREAM  the partition's events
-- ARGV      command_id         names the command and its answer; '' means nobody waits
-- ARGV      deadline           ms of Redis TIME after which nothing must be done; '' means never
-- ARGV      entry              id of the stream entry it came in; '' where order does not count
-- ARGV      again              '1': it was handed out before
-- ARGV      pool               the pool's name
-- ARGV      worker_type        type of its workers, a JSON text
-- ARGV      is_paused          'true' or 'false'; 'false' leaves an existing pool as it is
-- ARGV      if_missing         '1': an existing pool of this type is the answer
-- ARGV      overwrite          '1': an existing pool of this type gets the fields
-- ARGV      pool_id            UUID for the pool
-- ARGV      queue_id           UUID for its default queue
-- ARGV      queue_name         of the default queue
-- ARGV      queue_description  of the default queue, a JSON text
-- ARGV      ...fields          names of the pool's other fields and their JSON texts, in turn
-- USES      pool pool_queue_names pool_queues pools queue
-- INCLUDES  clock events replies definitions changes
-- RETURNS   the answer with the whole pool, a JSON text (penstock.contracts.replies)
-- COST      O(fields + queues of an existing pool)
-- RULE      rules.pool_status
local answered = settled(command_id, deadline, entry, again, 'pool/' .. pool)
if answered then return answered end

local fields = { unpack(ARGV, fields_from) }
local found = find_pool(pool)
if found then
  if if_missing ~= '1' and overwrite ~= '1' then
    return refuse(command_id, 'conflict', "there is a pool '" .. pool .. "' already",
      'choose another name, or change it with `penstock work-pool update`')
  end
  if found.type ~= worker_type then
    return refuse(command_id, 'conflict', "there is a pool '" .. pool .. "' already, for workers of type " .. found.type ..
      ', not ' .. worker_type, 'choose another name; the type of a pool cannot be changed')
  end
  if overwrite == '1' then
    local changed = change_pool(found, fields)
    local paused = is_paused == 'true' and set_paused(key_pool(found.id), found, 'true')
    if paused then publish_pool_status(found) end
    if changed or paused then announce_pool(found) end
  end
  return carried_out(command_id, pool_json(found))
end

local now = '"' .. now_iso .. '"'
redis.call('HSET', key_queue(queue_id), 'name', cjson.encode(queue_name), 'pool_id', pool_id, 'description',
  queue_description, 'priority', '1', 'concurrency_limit', 'null', 'is_paused', 'false', 'created', now, 'updated', now)
redis.call('ZADD', key_pool_queues(pool_id), 1, queue_id)
redis.call('HSET', key_pool_queue_names(pool_id), queue_name, queue_id)
redis.call('HSET', key_pool(pool_id), 'name', cjson.encode(pool), 'type', worker_type, 'is_paused', is_paused, 'default_queue_id',
  '"' .. queue_id .. '"', 'created', now, 'updated', now, unpack(fields))
redis.call('HSET', key_pools(), pool, pool_id)

local created = find_pool(pool)
publish_queue(created, find_queue(created, queue_name), 'created')
publish_pool(created, 'created', default_queue_related(created), '{}')
publish_pool_status(created)
announce_pool(created)
return carried_out(command_id, pool_json(created))
