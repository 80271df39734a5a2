-- take_plans: Take the plans that are due, so that no other scheduler works on them for a while.
--
-- KEYS      schedule_plans  HASH  <deployment id>/<schedule id> -> '<revision> <planned until, ms>'
-- KEYS      schedule_due    ZSET  the same by the next moment it has to be planned, ms
-- ARGV      now             ms by the scheduler's clock
-- ARGV      lease_ms        for how long they are taken; whoever takes them and dies holds them up so long
-- ARGV      max_plans       how many at most
-- RETURNS   ident, plan, ident, plan, ... the longest due first
-- COST      O(log plans) a plan
-- RULE      none
local taken = {}
for _, ident in ipairs(redis.call('ZRANGEBYSCORE', schedule_due, '-inf', now, 'LIMIT', 0, tonumber(max_plans))) do
  local plan = redis.call('HGET', schedule_plans, ident)
  if plan then
    redis.call('ZADD', schedule_due, string.format('%.0f', tonumber(now) + tonumber(lease_ms)), ident)
    taken[#taken + 1] = ident
    taken[#taken + 1] = plan
  else
    redis.call('ZREM', schedule_due, ident)
  end
end
return taken
