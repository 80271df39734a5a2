-- report_runs: Apply what a worker says of the runs it holds; a report with an old token or epoch changes nothing.
--
-- KEYS      events       STREAM  the partition's events
-- ARGV      pool         name of the pool
-- ARGV      worker       name of the reporting worker
-- ARGV      retention    seconds a finished run is kept
-- ARGV      kept         how many finished runs a pool keeps
-- ARGV      ...reports   7 values a report: run id, token, epoch, state, message, started ms or '', ended ms or ''
-- USES      inbox pools run slots
-- INCLUDES  clock events runs
-- RETURNS   for every report 'applied', 'known' (nothing new) or 'fenced' (not, or no longer, this worker's claim)
-- COST      O(log runs) a report
-- RULE      rules.next_state
local _ = events
local pool_id = redis.call('HGET', key_pools(), pool)

local function mark_running(run, started)
  run.run_count = run.run_count + 1
  move_run(run, 'PENDING', 'RUNNING', '')
  run.state = 'RUNNING'
  redis.call('HSET', key_run(run.id), 'state', 'RUNNING', 'seq', run.seq, 'run_count', run.run_count, 'started', started)
end

-- One report's effect; the same table of moves as rules.next_state.
local function apply(run, state, message, started, ended)
  if run.state == 'COMPLETED' or run.state == 'FAILED' or run.state == 'CRASHED' or run.state == 'CANCELLED' then
    return 'known'
  end
  if state == 'SCHEDULED' then
    if run.state ~= 'PENDING' then return 'known' end
    release_run(run)
    put_back_run(run, message, retention)
    return 'applied'
  end
  local begun = started ~= '' and started or string.format('%.0f', now_ms)
  if state == 'RUNNING' then
    if run.state ~= 'PENDING' then return 'known' end
    mark_running(run, begun)
    return 'applied'
  end
  -- A terminal report may overtake RUNNING; it carries the start, so no event is lost.
  if run.state == 'PENDING' and (started ~= '' or state == 'COMPLETED') then mark_running(run, begun) end
  release_run(run)
  finish_run(run, state, message, ended ~= '' and ended or string.format('%.0f', now_ms), retention)
  return 'applied'
end

local answers, revoked = {}, {}
for index = reports_from, #ARGV, 7 do
  local run = read_run(ARGV[index])
  local answer = 'fenced'
  if run and run.token and run.token == ARGV[index + 1] and run.epoch == ARGV[index + 2] and run.worker == worker then
    answer = apply(run, ARGV[index + 3], ARGV[index + 4], ARGV[index + 5], ARGV[index + 6])
  else
    -- Only what came before the claim that is valid now, and nothing a stranger's epoch could name beyond it.
    local void = tonumber(ARGV[index + 2])
    if run and run.token and run.worker == worker then void = math.min(void, tonumber(run.epoch) - 1) end
    if void > 0 then revoked[#revoked + 1] = '{"id":"' .. ARGV[index] .. '","epoch":' .. void .. '}' end
  end
  answers[#answers + 1] = answer
end
settle(retention, kept)
-- Tell a worker that still runs what it no longer holds; nobody else gets an inbox this way.
if #revoked > 0 and pool_id and redis.call('EXISTS', key_slots(pool_id .. '/' .. worker)) == 1 then
  local inbox, kept_seconds = key_inbox(pool .. '/' .. worker), redis.call('TTL', key_slots(pool_id .. '/' .. worker))
  redis.call('XADD', inbox, '*', 'type', 'revoke_runs', '__data__',
    '{"type":"revoke_runs","runs":[' .. table.concat(revoked, ',') .. ']}')
  -- A lost worker may never come back to read it.
  if kept_seconds > 0 then redis.call('EXPIRE', inbox, kept_seconds) end
end
return answers
