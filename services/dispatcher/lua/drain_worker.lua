-- drain_worker: Assign nothing more to a worker, and tell it to finish what it holds and end.
--
-- KEYS      events      STREAM  the partition's events
-- ARGV      command_id  names the command and its answer; '' means nobody waits
-- ARGV      deadline    ms of Redis TIME after which nothing must be done; '' means never
-- ARGV      pool        name of the pool
-- ARGV      worker      name of the worker
-- ARGV      patience    ms its runs may take from now on; '' leaves that to the worker
-- USES      pool_prefetch pools slots slots_in_flight
-- INCLUDES  clock events runs parking sets slots replies inboxes draining
-- RETURNS   the answer: which life is meant and how many runs it holds, a JSON text (penstock.contracts.replies)
-- COST      O(queues the worker serves)
-- RULE      rules.free_slots
local _ = events
local answered = earlier_answer(command_id)
if answered then return answered end
if expired(deadline) then return refuse(command_id, 'expired', 'the deadline of the command has passed') end
local pool_id = redis.call('HGET', key_pools(), pool)
if not pool_id then return refuse(command_id, 'not_found', "there is no work pool '" .. pool .. "'") end
local ident = pool_id .. '/' .. worker
-- A lost worker has a record, too, but no place here.
if not redis.call('ZSCORE', key_pool_prefetch(pool_id), worker) then
  return refuse(command_id, 'not_found', "no worker '" .. worker .. "' of work pool '" .. pool .. "' is ONLINE",
    'penstock worker ls')
end

local boot_id = redis.call('HGET', key_slots(ident), 'boot_id')
redis.call('HSET', key_slots(ident), 'draining', boot_id,
  'drain_until', patience == '' and '' or string.format('%.0f', now_ms + tonumber(patience)))
refresh_free(pool_id, worker)
tell_to_stop(ident, pool .. '/' .. worker)
return accept(command_id, '{"worker":' .. cjson.encode(worker) .. ',"boot_id":' .. cjson.encode(boot_id) .. ',"runs":' ..
  redis.call('SCARD', key_slots_in_flight(ident)) .. '}')
