-- cancel_runs: Cancel runs: at once what waits, through its worker what is in flight.
--
-- KEYS      events       STREAM  the partition's events
-- ARGV      command_id   names the command and its answer; '' means nobody waits
-- ARGV      deadline     ms of Redis TIME after which nothing must be done; '' means never
-- ARGV      message      why, for the events and the runs
-- ARGV      force        '1': do not wait for workers
-- ARGV      patience     ms after which a run in flight is called CANCELLED whether its worker has answered or not
-- ARGV      retention    seconds a finished run is kept
-- ARGV      kept         how many finished runs a pool keeps
-- ARGV      ...runs      ids of runs
-- USES      due pool queue
-- INCLUDES  clock events runs parking sets slots inboxes stopping replies
-- RETURNS   'expired' | {for every run 'cancelled', 'cancelling', 'unknown' or the state in which it had ended; names of pools with
--           free slots}
-- COST      O(log runs) a run
-- RULE      rules.cancelled
local _ = events
if expired(deadline) then
  push_refusal(command_id, 'expired', 'the deadline of the command had passed before it was read')
  return 'expired'
end
local freed = {}

local function cancel(run)
  if not run then return 'unknown' end
  if run.state == 'CANCELLED' then return 'cancelled' end
  if is_terminal(run.state) then return run.state end
  if run.state == 'SCHEDULED' then
    run.pool_id = redis.call('HGET', key_queue(run.queue_id), 'pool_id')
    -- Its queue was deleted: it is cancelled with everything that waits there, just now.
    if not run.pool_id then return 'cancelling' end
    leave_queue(run)
    finish_run(run, 'CANCELLED', message, now_text, retention)
    return 'cancelled'
  end
  if force ~= '1' then
    stop_run(run, now_ms + tonumber(patience), message)
    return 'cancelling'
  end
  take_away(run, message, retention)
  freed[redis.call('HGET', key_pool(run.pool_id), 'name') or ''] = true
  return 'cancelled'
end

local ids, answers, ended = { unpack(ARGV, runs_from) }, {}, {}
for index, id in ipairs(ids) do
  answers[index] = cancel(read_run(id))
  if is_terminal(answers[index]) then ended[#ended + 1] = '{"run":"' .. id .. '","state":"' .. answers[index] .. '"}' end
end
settle(retention, kept)
send_stops()
push_result(command_id, '{' .. by_word(ids, answers, { 'cancelled', 'cancelling', 'unknown' }) .. ',"ended":[' ..
  table.concat(ended, ',') .. ']}')
local names = {}
for name in pairs(freed) do
  if name ~= '' then
    names[#names + 1] = cjson.decode(name)
    -- The caller claims there; if it dies before, the message that comes again frees nothing, so the due clock has to know.
    redis.call('ZADD', key_due(), 'LT', now_text, names[#names])
  end
end
return { answers, names }
