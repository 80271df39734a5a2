-- announce_worker: Take over what a worker is now; a new life of it voids the claims of the old.
--
-- KEYS      events       STREAM  the partition's events
-- ARGV      pool         name of the pool
-- ARGV      pool_id      uuid of the pool
-- ARGV      worker       name of the worker
-- ARGV      boot_id      names this life of it
-- ARGV      seq          orders the announcements and losses of one worker; an older one changes nothing
-- ARGV      slots_now    how many runs it holds at the same time, absolute
-- ARGV      prefetch_ms  how long before its time it may get a run
-- ARGV      retention    seconds a finished run is kept
-- ARGV      kept         how many finished runs a pool keeps
-- ARGV      ...queues    names of the queues it serves; none means all
-- USES      audits inbox pool pool_free pool_prefetch pool_queue_names queue_free slots
-- INCLUDES  clock events runs parking sets slots claims inboxes draining
-- CONSTANTS AUDIT_MS
-- RETURNS   1 applied, 0 an old one or the pool is gone
-- COST      O(queues + runs of the old life)
-- RULE      rules.applies, custody.audit_due_ms
local _ = events
local ident = pool_id .. '/' .. worker
local stored = redis.call('HMGET', key_slots(ident), 'seq', 'boot_id', 'queue_ids')
if stored[1] and tonumber(seq) <= tonumber(stored[1]) then return 0 end
if redis.call('EXISTS', key_pool(pool_id)) == 0 then return 0 end
local inbox = key_inbox(pool .. '/' .. worker)

if stored[2] and stored[2] ~= boot_id then
  redis.call('DEL', inbox)
  give_back(pool_id, worker, boot_id, 'replaced by a new process', retention, kept)
end
redis.call('ZREM', key_pool_free(pool_id), worker)
for queue_id in (stored[3] or ''):gmatch('[^*,]+') do redis.call('ZREM', key_queue_free(queue_id), worker) end

local queue_ids = {}
for index = queues_from, #ARGV do
  queue_ids[#queue_ids + 1] = redis.call('HGET', key_pool_queue_names(pool_id), ARGV[index]) or nil
end
redis.call('HSET', key_slots(ident), 'seq', seq, 'boot_id', boot_id, 'slots', slots_now, 'prefetch_ms', prefetch_ms,
  'queue_ids', #ARGV < queues_from and '*' or table.concat(queue_ids, ','))
redis.call('PERSIST', key_slots(ident))
redis.call('ZADD', key_pool_prefetch(pool_id), prefetch_ms, worker)
redis.call('ZADD', key_audits(), 'NX', now_ms + AUDIT_MS, ident)
refresh_free(pool_id, worker)
send_to(ident, pool .. '/' .. worker, 'accept_worker', ',"boot_id":' .. cjson.encode(boot_id) .. ',"slots":' .. slots_now)
-- It does not say yet that it drains: its inbox may have been deleted since it was told.
if tonumber(slots_now) > 0 then tell_to_stop(ident, pool .. '/' .. worker) end
redis.call('PERSIST', inbox)
return 1
