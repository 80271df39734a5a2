-- admission: Decide whether a run whose turn has come may be handed out, as far as its deployment and its schedule are concerned.
--
-- USES      deployment deployment_in_flight deployment_waiting idempotency logs run
-- CONSTANTS MISSED_AFTER_MS LATEST_LOOKED_AT
-- RETURNS   admit(run, queue_id, due_ms, retention) -> 'go' | 'gone' (it waits here no more) | 'stays', hold(run), has_begun(run),
--           void_run(run, message)
-- COST      O(1) a run; once a script O(later runs of the deployment, at most LATEST_LOOKED_AT) where only the latest is caught up
-- RULE      services.dispatcher.rules.admission

local deployments_ = {}
local function deployment_named(id)
  if not deployments_[id] then
    local about = redis.call('HMGET', key_deployment(id), 'concurrency_limit', 'collision_strategy', 'revision', 'revised_ms')
    deployments_[id] = { limit = tonumber(about[1] or ''), cancels_new = about[2] == '"cancel_new"', revision = about[3],
      revised_ms = tonumber(about[4] or ''), held = redis.call('ZCARD', key_deployment_in_flight(id)) }
  end
  return deployments_[id]
end

-- It takes a slot of its deployment.
local function hold(run)
  redis.call('ZREM', key_deployment_waiting(run.deployment_id), run.id)
  redis.call('ZADD', key_deployment_in_flight(run.deployment_id), now_text, run.id)
  local deployment = deployment_named(run.deployment_id)
  deployment.held = deployment.held + 1
end

-- Remove a run that its schedule would not make any more: nobody has seen anything of it but its place in a preview, so after its
-- last event no record stays. Its key is free again: a schedule that is resumed makes the same run anew.
local function void_run(run, message)
  leave_queue(run)
  move_run(run, run.state, 'CANCELLED', message)
  redis.call('DEL', key_run(run.id), key_logs(run.id))
  if run.key then redis.call('DEL', key_idempotency(run.key)) end
end

-- Of a schedule: its id and the revision and policy it was made under; nil for a run somebody submitted.
local function scheduled_by(run)
  if not run.auto then return nil end
  return run.auto:match('^(%S+) (%d+) (%S+)$')
end

-- A run that was handed out once, and waits again, is more than a place in a preview: it has begun.
local function has_begun(run)
  return run.epoch ~= nil
end

-- Changed or paused since, and at that time still in the future. The definition of a deleted deployment is not there.
local function is_void(run, due_ms)
  local _, revision = scheduled_by(run)
  if not revision or has_begun(run) then return false end
  local deployment = deployment_named(run.deployment_id)
  return deployment.revision and deployment.revision ~= revision and due_ms > deployment.revised_ms or false
end

-- Deployment -> schedule -> when its latest run is due that waits, is due by now and has not begun; filled from the latest
-- backwards, as far as is looked.
local latest_ = {}
local function latest_due(deployment_id, schedule)
  local known = latest_[deployment_id] or { seen = 0 }
  latest_[deployment_id] = known
  while not known[schedule] and known.seen < LATEST_LOOKED_AT do
    local page = redis.call('ZREVRANGEBYSCORE', key_deployment_waiting(deployment_id), now_ms, '-inf', 'WITHSCORES', 'LIMIT',
      known.seen, math.min(100, LATEST_LOOKED_AT - known.seen))
    if #page == 0 then break end
    for index = 1, #page, 2 do
      local about = redis.call('HMGET', key_run(page[index]), 'auto', 'epoch')
      local maker = about[1] and not about[2] and about[1]:match('^%S+')
      if maker then known[maker] = known[maker] or tonumber(page[index + 1]) end
    end
    known.seen = known.seen + #page / 2
  end
  return known[schedule]
end

-- It waits no more.
local function forget_latest(run, due_ms)
  local known, schedule = latest_[run.deployment_id], scheduled_by(run)
  if known and schedule and known[schedule] == due_ms then latest_[run.deployment_id] = nil end
end

-- Why it must not run any more, if its time has been missed; else nil.
local function missed(run, due_ms)
  local schedule, _, catch_up = scheduled_by(run)
  if has_begun(run) then return nil end
  if catch_up == 'latest' and (latest_due(run.deployment_id, schedule) or due_ms) > due_ms then
    return 'Missed: a later run of its schedule is due, and only the latest is caught up'
  end
  if catch_up == 'none' and now_ms - due_ms > MISSED_AFTER_MS then
    return 'Missed: its schedule does not catch up'
  end
  return nil
end

local function admit(run, queue_id, due_ms, retention)
  if not run.deployment_id then return 'go' end
  if is_void(run, due_ms) then
    forget_latest(run, due_ms)
    void_run(run, 'Its schedule was changed')
    return 'gone'
  end
  local deployment = deployment_named(run.deployment_id)
  local full = deployment.limit and deployment.held >= deployment.limit
  local reason = missed(run, due_ms)
  if not reason and full and deployment.cancels_new and not has_begun(run) then
    if due_ms > now_ms then return 'stays' end
    reason = 'Deployment concurrency limit reached'
  end
  if full and not reason then
    park(queue_id, run.deployment_id, run.id, string.format('%.0f', due_ms))
    return 'gone'
  end
  forget_latest(run, due_ms)
  if not reason then return 'go' end
  leave_queue(run)
  finish_run(run, 'CANCELLED', reason, now_text, retention)
  return 'gone'
end
