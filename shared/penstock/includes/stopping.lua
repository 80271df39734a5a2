-- stopping: Tell workers to stop runs, or that they hold them no more.
--
-- USES      cancelling inbox pool run slots
-- RETURNS   stop_run(run, deadline_ms, message), take_away(run, message, retention), recall_run(run), send_stops()
-- COST      O(log runs) a run
-- RULE      services.dispatcher.rules.cancelled

-- Kind of message -> '<pool id>/<worker>' -> list of JSON texts.
local stops_ = { stop_runs = {}, revoke_runs = {} }
local told_ = {}

local function tell_worker(kind, run)
  local ident = run.pool_id .. '/' .. run.worker
  told_[ident] = { run.pool_id, run.worker }
  stops_[kind][ident] = stops_[kind][ident] or {}
  table.insert(stops_[kind][ident], '{"id":"' .. run.id .. '","epoch":' .. run.epoch .. '}')
end

-- Ask its worker to end a run that is in flight; asked again, the worker is told again and the deadline stays.
local function stop_run(run, deadline_ms, message)
  if run.state ~= 'CANCELLING' then
    move_run(run, run.state, 'CANCELLING', message)
    redis.call('HSET', key_run(run.id), 'state', 'CANCELLING', 'seq', digits[run.seq], 'message', message, 'history', run.history)
    redis.call('ZADD', key_cancelling(), deadline_ms, run.id)
    run.state = 'CANCELLING'
  end
  tell_worker('stop_runs', run)
end

-- Call a run in flight CANCELLED whatever its process does; its worker's claim is void.
local function take_away(run, message, retention)
  tell_worker('revoke_runs', run)
  release_run(run)
  finish_run(run, 'CANCELLED', message, now_text, retention)
  redis.call('HDEL', key_run(run.id), 'token')
end

-- Void the claim of a run that has not begun.
local function recall_run(run)
  tell_worker('revoke_runs', run)
  release_run(run)
end

local function send_stops()
  for ident, about in pairs(told_) do
    local name = redis.call('HGET', key_pool(about[1]), 'name')
    local kept_seconds = redis.call('TTL', key_slots(ident))
    -- -2: nobody would ever read it.
    if name and kept_seconds ~= -2 then
      local inbox = cjson.decode(name) .. '/' .. about[2]
      for kind, runs in pairs(stops_) do
        if runs[ident] then send_to(ident, inbox, kind, '', runs[ident]) end
      end
      -- A lost worker may never come back to read it.
      if kept_seconds > 0 then redis.call('EXPIRE', key_inbox(inbox), kept_seconds) end
    end
  end
end
