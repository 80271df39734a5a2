-- restart_plans: Let plans begin again at a given moment, because the runs they had made are gone with their pool.
--
-- KEYS      schedule_plans  HASH  <deployment id>/<schedule id> -> '<revision> <planned until, ms>'
-- KEYS      schedule_due    ZSET  the same by the next moment it has to be planned, ms
-- ARGV      since           ms; what fires after it gets its run
-- ARGV      next_ms         when they have to be planned again
-- ARGV      ...idents       <deployment id>/<schedule id>; one without a plan stays without
-- RETURNS   number of plans
-- COST      O(log plans) an ident
-- RULE      none
local begun = 0
for index = idents_from, #ARGV do
  local plan = redis.call('HGET', schedule_plans, ARGV[index])
  if plan then
    redis.call('HSET', schedule_plans, ARGV[index], plan:match('^%d+') .. ' ' .. since)
    redis.call('ZADD', schedule_due, next_ms, ARGV[index])
    begun = begun + 1
  end
end
return begun
