-- claims: Take back claims: those of a worker's life that is over, and one that its worker does not know.
--
-- USES      pool run slots_in_flight
-- RETURNS   disown_run(run, retention), give_back(pool_id, worker, living_boot, reason, retention, kept) -> claims taken back
-- COST      O(log runs) for disown_run, else O(runs the worker holds)
-- RULE      services.dispatcher.custody.after_loss, services.dispatcher.custody.after_disowning

local function claim_expired(run, reason)
  -- A claim is a resource of its own and this its only event, so its seq needs no ledger that would grow for ever.
  local resource_id = 'penstock.claim.' .. run.id .. '.' .. run.epoch
  append_event(1, resource_id, 'penstock.run.claim-expired',
    '{"prefect.resource.id":"' .. resource_id .. '","prefect.resource.name":' .. cjson.encode(run.name) .. '}',
    '[{"prefect.resource.id":"prefect.flow-run.' .. run.id .. '","prefect.resource.role":"flow-run","prefect.resource.name":' ..
    cjson.encode(run.name) .. '},' .. relation(run):sub(2),
    '{"worker":' .. cjson.encode(run.worker) .. ',"epoch":' .. run.epoch .. ',"reason":' .. cjson.encode(reason) .. '}', nil)
end

-- What becomes of a run: 'requeue', 'keep', or the terminal state it goes to.
local function after_loss(run, policy, max_attempts)
  if run.state == 'PENDING' then return 'requeue' end
  if run.state == 'CANCELLING' then return 'CANCELLED' end
  if policy == 'keep' then return 'keep' end
  if policy == 'requeue' and run.run_count < max_attempts then return 'requeue' end
  return 'CRASHED'
end

-- Void a claim; its run goes back to its queue or to an end.
local function take_back(run, fate, reason, what, retention)
  release_run(run)
  claim_expired(run, reason)
  if fate == 'requeue' then
    put_back_run(run, what .. '; returned to its queue', retention)
  elseif fate ~= 'CRASHED' or not retry_run(run, what) then
    finish_run(run, fate, what, now_text, retention)
    redis.call('HDEL', key_run(run.id), 'token')
  end
end

-- The worker says that it does not know this claim of its own; false for a deleted pool's, which is cancelled with it.
local function disown_run(run, retention)
  local about = redis.call('HMGET', key_pool(run.pool_id), 'on_worker_lost', 'max_attempts')
  if not about[1] then return false end
  local policy = about[1]:sub(2, -2)
  -- Nothing is left that could outlive its worker.
  local fate = after_loss(run, policy == 'keep' and 'crash' or policy, tonumber(about[2] or 1))
  take_back(run, fate, 'unknown to its worker', "Worker '" .. run.worker .. "' does not know this run (any more)", retention)
  return true
end

-- living_boot is the life whose claims stay valid, '' for none. The pool is there: a deleted one's runs are cancelled with it.
local function give_back(pool_id, worker, living_boot, reason, retention, kept)
  local ident = pool_id .. '/' .. worker
  local about = redis.call('HMGET', key_pool(pool_id), 'on_worker_lost', 'max_attempts')
  local policy = about[1]:sub(2, -2)
  local taken = 0
  for _, run_id in ipairs(redis.call('SMEMBERS', key_slots_in_flight(ident))) do
    local run = read_run(run_id)
    if not run then
      redis.call('SREM', key_slots_in_flight(ident), run_id)
    elseif living_boot == '' or run.boot ~= living_boot then
      local fate = after_loss(run, policy, tonumber(about[2] or 1))
      if fate ~= 'keep' then
        take_back(run, fate, reason, "Worker '" .. worker .. "' was lost (" .. reason .. ')', retention)
        taken = taken + 1
      end
    end
  end
  settle(retention, kept)
  return taken
end
