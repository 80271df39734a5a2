-- advance_plan: Note how far a schedule is planned, unless somebody else has noted something since or its runs were forgotten.
--
-- KEYS      schedule_plans  HASH  <deployment id>/<schedule id> -> '<revision> <planned until, ms>'
-- KEYS      schedule_due    ZSET  the same by the next moment it has to be planned, ms
-- ARGV      ident           <deployment id>/<schedule id>
-- ARGV      known           the plan as it was when the work began
-- ARGV      plan            the plan as it is now
-- ARGV      next_ms         when the schedule has to be planned again
-- ARGV      soon_ms         the same if a run is missing
-- ARGV      ...runs         ids of runs that were there a moment ago
-- USES      run
-- RETURNS   1, or 0 when the plan has become another one meanwhile, or Redis has lost a run since: it stays as it is
-- COST      O(log plans + runs)
-- RULE      none
if redis.call('HGET', schedule_plans, ident) ~= known then return 0 end
for index = runs_from, #ARGV do
  if redis.call('EXISTS', key_run(ARGV[index])) == 0 then
    redis.call('ZADD', schedule_due, soon_ms, ident)
    return 0
  end
end
redis.call('HSET', schedule_plans, ident, plan)
redis.call('ZADD', schedule_due, next_ms, ident)
return 1
