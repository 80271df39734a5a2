-- expire_cancelling: Call CANCELLED what its worker has not ended in time.
--
-- KEYS      events       STREAM  the partition's events
-- ARGV      message      why, for the events and the runs
-- ARGV      max_runs     how many at most in this call
-- ARGV      retention    seconds a finished run is kept
-- ARGV      kept         how many finished runs a pool keeps
-- USES      cancelling due pool
-- INCLUDES  clock events runs parking sets slots inboxes stopping
-- RETURNS   names of the pools of these runs; none means that nothing is overdue
-- COST      O(log runs) a run
-- RULE      none
local _ = events
local pools = {}
for _, run_id in ipairs(redis.call('ZRANGEBYSCORE', key_cancelling(), '-inf', now_ms, 'LIMIT', 0, tonumber(max_runs))) do
  local run = read_run(run_id)
  if run and run.state == 'CANCELLING' then
    take_away(run, message, retention)
    pools[redis.call('HGET', key_pool(run.pool_id), 'name') or '""'] = true
  end
  redis.call('ZREM', key_cancelling(), run_id)
end
settle(retention, kept)
send_stops()
local names = {}
for name in pairs(pools) do
  names[#names + 1] = cjson.decode(name)
  -- The caller claims there; if it dies before, nobody else would look.
  redis.call('ZADD', key_due(), 'LT', now_text, names[#names])
end
return names
