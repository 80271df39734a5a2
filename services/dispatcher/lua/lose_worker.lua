-- lose_worker: Take back what an OFFLINE worker holds and offer it to the others.
--
-- KEYS      events       STREAM  the partition's events
-- ARGV      pool         name of the pool
-- ARGV      pool_id      uuid of the pool
-- ARGV      worker       name of the worker
-- ARGV      boot_id      the life that was lost
-- ARGV      seq          orders the announcements and losses of one worker; an older one changes nothing
-- ARGV      reason       why, for the events and the runs' messages
-- ARGV      retention    seconds a finished run is kept
-- ARGV      kept         how many finished runs a pool keeps
-- USES      audits inbox pool pool_free pool_prefetch queue_free slots
-- INCLUDES  clock events runs parking sets slots claims
-- RETURNS   number of claims taken back, -1 for an old message or a pool that is gone
-- COST      O(runs the worker holds)
-- RULE      custody.after_loss
local _ = events
local ident = pool_id .. '/' .. worker
local stored = redis.call('HMGET', key_slots(ident), 'seq', 'queue_ids')
if stored[1] and tonumber(seq) <= tonumber(stored[1]) then return -1 end
-- Its runs are cancelled with the pool, and the inbox may be that of a worker of the next pool of this name.
if redis.call('EXISTS', key_pool(pool_id)) == 0 then return -1 end

-- A tombstone: an announcement that was sent earlier must not bring the worker back.
redis.call('HSET', key_slots(ident), 'seq', seq, 'boot_id', boot_id, 'slots', 0, 'prefetch_ms', 0, 'queue_ids', '')
-- Lives without a name cannot be told apart: the next one is not the one that was drained.
if boot_id == '' then redis.call('HDEL', key_slots(ident), 'draining') end
redis.call('EXPIRE', key_slots(ident), 3600)
redis.call('ZREM', key_pool_free(pool_id), worker)
for queue_id in (stored[2] or ''):gmatch('[^*,]+') do redis.call('ZREM', key_queue_free(queue_id), worker) end
redis.call('ZREM', key_pool_prefetch(pool_id), worker)
redis.call('ZREM', key_audits(), ident)
-- Assignments it never read must not be read by its next life.
redis.call('DEL', key_inbox(pool .. '/' .. worker))
return give_back(pool_id, worker, '', reason, retention, kept)
