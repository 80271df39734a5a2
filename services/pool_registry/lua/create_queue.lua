-- create_queue: Create a queue at its priority, shifting others out of the way.
--
-- KEYS      events             STREAM  the partition's events
-- ARGV      command_id         names the command and its answer; '' means nobody waits
-- ARGV      deadline           ms of Redis TIME after which nothing must be done; '' means never
-- ARGV      entry              id of the stream entry it came in; '' where order does not count
-- ARGV      again              '1': it was handed out before
-- ARGV      pool               the pool's name
-- ARGV      queue              the queue's name
-- ARGV      priority           1 or more; '' takes the first free number
-- ARGV      description        a JSON text
-- ARGV      concurrency_limit  a JSON text
-- ARGV      is_paused          'true' or 'false'
-- ARGV      if_missing         '1': an existing queue is the answer
-- ARGV      queue_id           UUID for the queue
-- USES      pool_queue_names pool_queues queue
-- INCLUDES  clock events replies definitions changes priorities
-- RETURNS   the answer with the whole queue, a JSON text (penstock.contracts.replies)
-- COST      O(queues of the pool)
-- RULE      rules.place_priority, rules.queue_status
local answered = settled(command_id, deadline, entry, again, 'pool/' .. pool)
if answered then return answered end
local found = find_pool(pool)
if not found then return refuse_pool(command_id, pool) end

local child = find_queue(found, queue)
if child then
  if if_missing == '1' then return carried_out(command_id, queue_json(found, child)) end
  return refuse(command_id, 'conflict', 'pool ' .. found.name .. " has a queue '" .. queue .. "' already",
    'choose another name, or change the one there is')
end

if priority == '' then
  priority = string.format('%.0f', free_priority(found))
elseif not make_room(found, priority) then
  return refuse_room(command_id, found, priority)
end
local now = '"' .. now_iso .. '"'
redis.call('HSET', key_queue(queue_id), 'name', cjson.encode(queue), 'pool_id', found.id, 'description', description,
  'priority', priority, 'concurrency_limit', concurrency_limit, 'is_paused', is_paused, 'created', now, 'updated', now)
redis.call('ZADD', key_pool_queues(found.id), priority, queue_id)
redis.call('HSET', key_pool_queue_names(found.id), queue, queue_id)

child = find_queue(found, queue)
publish_queue(found, child, 'created')
if queue_status(found, child) == 'READY' then publish_queue_status(found, child) end
announce_pool(found)
return carried_out(command_id, queue_json(found, child))
