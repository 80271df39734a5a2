-- resume_queue: Hand out runs of a queue again.
--
-- KEYS      events             STREAM  the partition's events
-- ARGV      command_id         names the command and its answer; '' means nobody waits
-- ARGV      deadline           ms of Redis TIME after which nothing must be done; '' means never
-- ARGV      entry              id of the stream entry it came in; '' where order does not count
-- ARGV      again              '1': it was handed out before
-- ARGV      pool               the pool's name
-- ARGV      queue              the queue's name
-- USES      queue
-- INCLUDES  clock events replies definitions changes
-- RETURNS   the answer with the whole queue, a JSON text (penstock.contracts.replies)
-- COST      O(1)
-- RULE      rules.queue_status
local answered = settled(command_id, deadline, entry, again, 'pool/' .. pool)
if answered then return answered end
local found = find_pool(pool)
if not found then return refuse_pool(command_id, pool) end
local child = find_queue(found, queue)
if not child then return refuse_queue(command_id, found, queue) end

if set_paused(key_queue(child.id), child, 'false') then
  publish_queue_status(found, child)
  announce_pool(found)
end
return carried_out(command_id, queue_json(found, child))
