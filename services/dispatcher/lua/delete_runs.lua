-- delete_runs: Forget finished runs, their output and their idempotency keys.
--
-- KEYS      events       STREAM  the partition's events
-- ARGV      command_id   names the command and its answer; '' means nobody waits
-- ARGV      deadline     ms of Redis TIME after which nothing must be done; '' means never
-- ARGV      ...runs      ids of runs
-- USES      idempotency logs pool_finished run
-- INCLUDES  clock replies
-- RETURNS   'answered' (before) | 'expired' | for every run 'deleted', 'unfinished' or 'unknown'
-- COST      O(log finished) a run
-- RULE      rules.deleted
local _ = events
local answered = earlier_answer(command_id)
if answered then
  send_answer(command_id, answered)
  return 'answered'
end
if expired(deadline) then
  refuse(command_id, 'expired', 'the deadline of the command had passed before it was read')
  return 'expired'
end
local ended = { COMPLETED = true, FAILED = true, CRASHED = true, CANCELLED = true }
local ids, answers = { unpack(ARGV, runs_from) }, {}
for index, id in ipairs(ids) do
  local about = redis.call('HMGET', key_run(id), 'name', 'state', 'pool_id', 'key')
  local answer = 'unknown'
  if about[1] then answer = ended[about[2]] and 'deleted' or 'unfinished' end
  if answer == 'deleted' then
    redis.call('ZREM', key_pool_finished(about[3]), id)
    redis.call('DEL', key_run(id), key_logs(id))
    if about[4] then redis.call('DEL', key_idempotency(about[4])) end
  end
  answers[index] = answer
end
accept(command_id, '{' .. by_word(ids, answers, { 'deleted', 'unfinished', 'unknown' }) .. '}')
return answers
