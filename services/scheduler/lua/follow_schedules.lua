-- follow_schedules: Give live schedules a plan of their deployment's revision, drop the plans of all others.
--
-- KEYS      schedule_plans  HASH  <deployment id>/<schedule id> -> '<revision> <planned until, ms>'
-- KEYS      schedule_due    ZSET  the same by the next moment it has to be planned, ms
-- ARGV      now             ms by the scheduler's clock; a plan that begins is due at once
-- ARGV      ...idents       <deployment id>/<schedule id>
-- USES      deployment schedules
-- RETURNS   number of plans that begin
-- COST      O(size of the schedule) an ident
-- RULE      rules.followed
local begun = 0
for index = idents_from, #ARGV do
  local ident = ARGV[index]
  local deployment_id, schedule_id = ident:match('^([^/]+)/(.+)$')
  local about = redis.call('HMGET', key_deployment(deployment_id), 'revision', 'revised_ms', 'paused')
  local schedule = redis.call('HGET', key_schedules(deployment_id), schedule_id)
  local plan = redis.call('HGET', schedule_plans, ident)
  if not (about[1] and about[3] == 'false' and schedule and cjson.decode(schedule).active ~= false) then
    redis.call('HDEL', schedule_plans, ident)
    redis.call('ZREM', schedule_due, ident)
  elseif not plan or plan:match('^%d+') ~= about[1] then
    redis.call('HSET', schedule_plans, ident, about[1] .. ' ' .. about[2])
    redis.call('ZADD', schedule_due, now, ident)
    begun = begun + 1
  end
end
return begun
