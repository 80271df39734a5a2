-- audit_runs: Tell workers which claims they hold, so that each says and does what is missing on either side.
--
-- KEYS      events       STREAM  the partition's events
-- ARGV      everybody    1: Redis may have forgotten something, so all workers are due now
-- ARGV      bound        how many at most in this call; no further one after ten times as many runs
-- USES      audits pool pool_prefetch pools run slots slots_in_flight
-- INCLUDES  clock inboxes draining
-- CONSTANTS AUDIT_MS
-- RETURNS   {workers told, 1 if a bound ended the call else 0}
-- COST      O(runs the workers hold), for everybody O(workers) more
-- RULE      custody.audited, custody.audit_due_ms
local _ = events

-- From what was announced, so that none is left out that an older version announced.
if everybody == '1' then
  for _, pool_id in ipairs(redis.call('HVALS', key_pools())) do
    for _, worker in ipairs(redis.call('ZRANGE', key_pool_prefetch(pool_id), 0, -1)) do
      redis.call('ZADD', key_audits(), now_ms, pool_id .. '/' .. worker)
    end
  end
end

-- The claims of a life as a list of JSON texts.
local function held_by(ident, boot_id)
  local claims = {}
  for _, run_id in ipairs(redis.call('SMEMBERS', key_slots_in_flight(ident))) do
    local run = redis.call('HMGET', key_run(run_id), 'state', 'boot', 'token', 'epoch')
    if run[3] and run[2] == boot_id and (run[1] == 'PENDING' or run[1] == 'RUNNING' or run[1] == 'CANCELLING') then
      claims[#claims + 1] = '{"id":"' .. run_id .. '","token":"' .. run[3] .. '","epoch":' .. run[4] .. ',"state":"' .. run[1] .. '"}'
    end
  end
  return claims
end

local told, runs = 0, 0
local due = redis.call('ZRANGEBYSCORE', key_audits(), '-inf', now_ms, 'LIMIT', 0, tonumber(bound))
for _, ident in ipairs(due) do
  if runs >= 10 * bound then return { told, 1 } end
  local pool_id, worker = ident:match('^([^/]+)/(.*)$')
  local name = redis.call('HGET', key_pool(pool_id), 'name')
  if not name or not redis.call('ZSCORE', key_pool_prefetch(pool_id), worker) then
    redis.call('ZREM', key_audits(), ident)
  else
    local about = redis.call('HMGET', key_slots(ident), 'boot_id', 'slots')
    local boot_id, inbox = about[1] or '', cjson.decode(name) .. '/' .. worker
    local claims = held_by(ident, boot_id)
    send_to(ident, inbox, 'audit_runs', ',"boot_id":' .. cjson.encode(boot_id), claims)
    -- It does not say yet that it drains.
    if tonumber(about[2] or 0) > 0 then tell_to_stop(ident, inbox) end
    redis.call('ZADD', key_audits(), now_ms + AUDIT_MS, ident)
    told, runs = told + 1, runs + #claims
  end
end
return { told, #due == tonumber(bound) and 1 or 0 }
