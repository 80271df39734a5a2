-- delete_runs: Forget finished runs, their output and their idempotency keys.
--
-- KEYS      events       STREAM  the partition's events
-- ARGV      ...runs      ids of runs
-- USES      idempotency logs pool_finished run
-- RETURNS   for every run 'deleted', 'unfinished' or 'unknown'
-- COST      O(log finished) a run
-- RULE      rules.deleted
local _ = events
local ended = { COMPLETED = true, FAILED = true, CRASHED = true, CANCELLED = true }
local answers = {}
for index = runs_from, #ARGV do
  local about = redis.call('HMGET', key_run(ARGV[index]), 'name', 'state', 'pool_id', 'key')
  local answer = 'unknown'
  if about[1] then answer = ended[about[2]] and 'deleted' or 'unfinished' end
  if answer == 'deleted' then
    redis.call('ZREM', key_pool_finished(about[3]), ARGV[index])
    redis.call('DEL', key_run(ARGV[index]), key_logs(ARGV[index]))
    if about[4] then redis.call('DEL', key_idempotency(about[4])) end
  end
  answers[#answers + 1] = answer
end
return answers
