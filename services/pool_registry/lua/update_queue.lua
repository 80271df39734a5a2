-- update_queue: Change fields of a queue; a taken priority shifts others out of the way.
--
-- KEYS      events             STREAM  the partition's events
-- ARGV      command_id         names the command and its answer; '' means nobody waits
-- ARGV      deadline           ms of Redis TIME after which nothing must be done; '' means never
-- ARGV      entry              id of the stream entry it came in; '' where order does not count
-- ARGV      again              '1': it was handed out before
-- ARGV      pool               the pool's name
-- ARGV      queue              the queue's name
-- ARGV      new_name           the name it is to have; '' keeps the old
-- ARGV      priority           1 or more; '' keeps the old
-- ARGV      ...changes         names of fields and their JSON texts, in turn, name and priority included
-- USES      pool_queue_names
-- INCLUDES  clock events replies definitions changes priorities
-- RETURNS   the answer with the whole queue, a JSON text (penstock.contracts.replies)
-- COST      O(shifted queues * log(queues of the pool))
-- RULE      rules.place_priority
local answered = settled(command_id, deadline, entry, again, 'pool/' .. pool)
if answered then return answered end
local found = find_pool(pool)
if not found then return refuse_pool(command_id, pool) end
local child = find_queue(found, queue)
if not child then return refuse_queue(command_id, found, queue) end

local renamed = new_name ~= '' and new_name ~= queue
if renamed and find_queue(found, new_name) then
  return refuse(command_id, 'conflict', 'pool ' .. found.name .. " has a queue '" .. new_name .. "' already",
    'choose another name')
end
if priority ~= '' and not make_room(found, priority, child.id) then return refuse_room(command_id, found, priority) end
if change_queue(found, child, { unpack(ARGV, changes_from) }) then
  if renamed then
    redis.call('HDEL', key_pool_queue_names(found.id), queue)
    redis.call('HSET', key_pool_queue_names(found.id), new_name, child.id)
  end
  announce_pool(found)
end
return carried_out(command_id, queue_json(found, child))
