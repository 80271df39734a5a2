-- delete_queue: Delete a queue, but never a pool's default queue.
--
-- KEYS      events             STREAM  the partition's events
-- ARGV      command_id         names the command and its answer; '' means nobody waits
-- ARGV      deadline           ms of Redis TIME after which nothing must be done; '' means never
-- ARGV      entry              id of the stream entry it came in; '' where order does not count
-- ARGV      again              '1': it was handed out before
-- ARGV      pool               the pool's name
-- ARGV      queue              the queue's name
-- USES      pool_queue_names pool_queues queue
-- INCLUDES  clock events replies definitions changes
-- RETURNS   the answer with the whole queue as it was, a JSON text (penstock.contracts.replies)
-- COST      O(log(queues of the pool))
-- RULE      none
local answered = settled(command_id, deadline, entry, again, 'pool/' .. pool)
if answered then return answered end
local found = find_pool(pool)
if not found then return refuse_pool(command_id, pool) end
local child = find_queue(found, queue)
if not child then return refuse_queue(command_id, found, queue) end

if found.default_queue_id == '"' .. child.id .. '"' then
  return refuse(command_id, 'conflict', 'the default queue of a pool cannot be deleted',
    'pause it, or delete the pool; runs without a queue need it')
end
local last = queue_json(found, child)
publish_queue(found, child, 'deleted')
forget('prefect.work-queue.' .. child.id)
redis.call('HDEL', key_pool_queue_names(found.id), queue)
redis.call('ZREM', key_pool_queues(found.id), child.id)
redis.call('DEL', key_queue(child.id))
announce('queue.deleted', ',"pool_id":"' .. found.id .. '","pool":' .. found.name .. ',"worker_type":' .. found.type ..
  ',"queue":{"id":"' .. child.id .. '","name":' .. child.name .. '}')
return carried_out(command_id, last)
