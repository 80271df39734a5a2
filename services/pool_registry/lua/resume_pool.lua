-- resume_pool: Hand out runs of a pool again.
--
-- KEYS      events             STREAM  the partition's events
-- ARGV      command_id         names the command and its answer; '' means nobody waits
-- ARGV      deadline           ms of Redis TIME after which nothing must be done; '' means never
-- ARGV      entry              id of the stream entry it came in; '' where order does not count
-- ARGV      again              '1': it was handed out before
-- ARGV      pool               the pool's name
-- USES      pool
-- INCLUDES  clock events replies definitions changes
-- RETURNS   the answer with the whole pool, a JSON text (penstock.contracts.replies)
-- COST      O(queues of the pool), for the answer
-- RULE      rules.pool_status
local answered = settled(command_id, deadline, entry, again, 'pool/' .. pool)
if answered then return answered end
local found = find_pool(pool)
if not found then return refuse_pool(command_id, pool) end

if set_paused(key_pool(found.id), found, 'false') then
  publish_pool_status(found)
  announce_pool(found)
end
return carried_out(command_id, pool_json(found))
