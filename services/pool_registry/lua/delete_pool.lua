-- delete_pool: Delete a pool and its queues.
--
-- KEYS      events             STREAM  the partition's events
-- ARGV      command_id         names the command and its answer; '' means nobody waits
-- ARGV      deadline           ms of Redis TIME after which nothing must be done; '' means never
-- ARGV      entry              id of the stream entry it came in; '' where order does not count
-- ARGV      again              '1': it was handed out before
-- ARGV      pool               the pool's name
-- USES      pool pool_queue_names pool_queues pools queue
-- INCLUDES  clock events replies definitions changes
-- RETURNS   the answer with the whole pool as it was, a JSON text (penstock.contracts.replies)
-- COST      O(queues of the pool)
-- RULE      none
local answered = settled(command_id, deadline, entry, again, 'pool/' .. pool)
if answered then return answered end
local found = find_pool(pool)
if not found then return refuse_pool(command_id, pool) end

local last = pool_json(found)
local gone = {}
for index, child in ipairs(queues_of(found)) do
  publish_queue(found, child, 'deleted')
  forget('prefect.work-queue.' .. child.id)
  redis.call('DEL', key_queue(child.id))
  gone[index] = '{"id":"' .. child.id .. '","name":' .. child.name .. '}'
end
publish_pool(found, 'deleted', default_queue_related(found), '{}')
forget('prefect.work-pool.' .. found.id)
redis.call('HDEL', key_pools(), pool)
redis.call('DEL', key_pool(found.id), key_pool_queues(found.id), key_pool_queue_names(found.id))
announce('pool.deleted', ',"pool_id":"' .. found.id .. '","pool":' .. found.name .. ',"worker_type":' .. found.type ..
  ',"queues":[' .. table.concat(gone, ',') .. ']')
return carried_out(command_id, last)
