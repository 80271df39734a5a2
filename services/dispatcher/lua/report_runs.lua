-- report_runs: Apply what a worker says of the runs it holds; a report with an old token or epoch changes nothing.
--
-- KEYS      events       STREAM  the partition's events
-- ARGV      pool         name of the pool
-- ARGV      worker       name of the reporting worker
-- ARGV      retention    seconds a finished run is kept
-- ARGV      kept         how many finished runs a pool keeps
-- ARGV      ...reports   7 values a report: run id, token, epoch, state, message, started ms or '', ended ms or ''
-- USES      inbox pools run slots
-- INCLUDES  clock events runs parking sets slots claims inboxes
-- RETURNS   for every report 'applied', 'known' (nothing new) or 'fenced' (not, or no longer, this worker's claim)
-- COST      O(log runs) a report
-- RULE      rules.next_state, custody.after_disowning
local _ = events
local pool_id = redis.call('HGET', key_pools(), pool)

local function mark_running(run, started)
  run.run_count = run.run_count + 1
  move_run(run, 'PENDING', 'RUNNING', '')
  run.state = 'RUNNING'
  redis.call('HSET', key_run(run.id), 'state', 'RUNNING', 'seq', digits[run.seq], 'run_count', digits[run.run_count], 'started', started,
    'history', run.history)
end

-- Where a run that is being cancelled ends: as it did if it was done before it could be stopped.
local function end_of(run, state)
  if run.state == 'CANCELLING' and state ~= 'COMPLETED' then return 'CANCELLED' end
  return state
end

-- One report's effect; the same table of moves as rules.next_state.
local function apply(run, state, message, started, ended)
  if is_terminal(run.state) then return 'known' end
  if state == 'LOST' then return disown_run(run, retention) and 'applied' or 'known' end
  local begun = started ~= '' and started or now_text
  if state == 'RUNNING' or (state == 'SCHEDULED' and run.state ~= 'CANCELLING') then
    if run.state ~= 'PENDING' then return 'known' end
    if state == 'RUNNING' then
      mark_running(run, begun)
    else
      release_run(run)
      put_back_run(run, message, retention)
    end
    return 'applied'
  end
  -- A terminal report may overtake RUNNING; it carries the start, so no event is lost.
  if run.state == 'PENDING' and (started ~= '' or state == 'COMPLETED') then mark_running(run, begun) end
  state = end_of(run, state)
  release_run(run)
  if (state == 'FAILED' or state == 'CRASHED') and retry_run(run, message) then return 'applied' end
  finish_run(run, state, message, ended ~= '' and ended or now_text, retention)
  return 'applied'
end

-- A worker often says in one message that a run is RUNNING and that it has ended.
local begun_here = {}
local answers, revoked = {}, {}
for index = reports_from, #ARGV, 7 do
  local run = begun_here[ARGV[index]] or read_run(ARGV[index])
  local answer = 'fenced'
  if run and run.token == ARGV[index + 1] and run.epoch == ARGV[index + 2] and run.worker == worker then
    answer = apply(run, ARGV[index + 3], ARGV[index + 4], ARGV[index + 5], ARGV[index + 6])
    begun_here[run.id] = run.state == 'RUNNING' and run or nil
  else
    -- Only what came before the claim that is valid now, and nothing a stranger's epoch could name beyond it.
    local void = ARGV[index + 3] == 'LOST' and 0 or tonumber(ARGV[index + 2])
    if run and run.token and run.worker == worker then void = math.min(void, tonumber(run.epoch) - 1) end
    if void > 0 then revoked[#revoked + 1] = '{"id":"' .. ARGV[index] .. '","epoch":' .. void .. '}' end
  end
  answers[#answers + 1] = answer
end
settle(retention, kept)
-- Tell a worker that still runs what it no longer holds; nobody else gets an inbox this way.
if #revoked > 0 and pool_id and redis.call('EXISTS', key_slots(pool_id .. '/' .. worker)) == 1 then
  local inbox, kept_seconds = pool .. '/' .. worker, redis.call('TTL', key_slots(pool_id .. '/' .. worker))
  send_to(pool_id .. '/' .. worker, inbox, 'revoke_runs', '', revoked)
  -- A lost worker may never come back to read it.
  if kept_seconds > 0 then redis.call('EXPIRE', key_inbox(inbox), kept_seconds) end
end
return answers
