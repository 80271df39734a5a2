-- claims: Take back the claims of a worker's life that is over.
--
-- USES      pool run slots_in_flight
-- RETURNS   give_back(pool_id, worker, living_boot, reason, retention, kept) -> number of claims taken back
-- COST      O(runs the worker holds)
-- RULE      services.dispatcher.rules.after_loss

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

-- living_boot is the life whose claims stay valid, '' for none.
local function give_back(pool_id, worker, living_boot, reason, retention, kept)
  local ident = pool_id .. '/' .. worker
  local about = redis.call('HMGET', key_pool(pool_id), 'on_worker_lost', 'max_attempts')
  if not about[1] then return 0 end -- a deleted pool's runs are cancelled by cancel_in_flight
  local policy = about[1]:sub(2, -2)
  local taken = 0
  for _, run_id in ipairs(redis.call('SMEMBERS', key_slots_in_flight(ident))) do
    local run = read_run(run_id)
    if not run then
      redis.call('SREM', key_slots_in_flight(ident), run_id)
    elseif living_boot == '' or run.boot ~= living_boot then
      local fate = after_loss(run, policy, tonumber(about[2] or 1))
      if fate ~= 'keep' then
        release_run(run)
        claim_expired(run, reason)
        local what = "Worker '" .. worker .. "' was lost (" .. reason .. ')'
        if fate == 'requeue' then
          put_back_run(run, what .. '; returned to its queue', retention)
        elseif fate ~= 'CRASHED' or not retry_run(run, what) then
          finish_run(run, fate, what, now_text, retention)
          redis.call('HDEL', key_run(run.id), 'token')
        end
        taken = taken + 1
      end
    end
  end
  settle(retention, kept)
  return taken
end
