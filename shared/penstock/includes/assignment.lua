-- assignment: Give a run to a worker: it holds its slots from now on, and the worker finds it in its inbox.
--
-- USES      pool_in_flight queue_in_flight run slots slots_in_flight waiting
-- RETURNS   assign(assigned, queue, run, due_ms, worker, nonce), send_assignments(pool_id, pool)
-- COST      O(log waiting) a run
-- RULE      services.dispatcher.rules.plan_claims

local boots, inboxes = {}, {}

-- assigned counts runs and bytes of specifications; due_ms is a text; a token nobody can guess is derived from the nonce.
local function assign(assigned, queue, run, due_ms, worker, nonce)
  later('ZREM', key_waiting(queue.id), run.id)
  local ident = run.pool_id .. '/' .. worker.name
  boots[ident] = boots[ident] or redis.call('HGET', key_slots(ident), 'boot_id') or ''
  local epoch = digits[tonumber(run.epoch or 0) + 1]
  local token = redis.sha1hex(nonce .. run.id .. epoch):sub(1, 32)
  if run.label then redis.call('HDEL', key_run(run.id), 'label') end
  move_run(run, 'SCHEDULED', 'PENDING', '')
  later('ZADD', key_pool_in_flight(run.pool_id), run.id)
  later('ZADD', key_queue_in_flight(queue.id), run.id)
  later('SADD', key_slots_in_flight(ident), run.id)
  if run.deployment_id then hold(run) end
  redis.call('HSET', key_run(run.id), 'state', 'PENDING', 'seq', digits[run.seq], 'pool_id', run.pool_id, 'worker', worker.name, 'boot',
    boots[ident], 'token', token, 'epoch', epoch, 'claimed', now_text, 'due', due_ms, 'history', run.history)
  local packed = redis.call('HGET', key_run(run.id), 'spec')
  local opening, entrypoint, between, rest, closing = unpack_spec(packed)
  inboxes[worker.name] = inboxes[worker.name] or {}
  table.insert(inboxes[worker.name], '{"id":"' .. run.id .. '","name":' .. cjson.encode(run.name) .. ',"token":"' .. token ..
    '","epoch":' .. epoch .. ',"queue":' .. queue.name .. ',"due_ms":' .. due_ms .. ',"spec":' ..
    opening .. entrypoint .. between .. rest .. closing .. '}')
  worker.free = worker.free - 1
  free_touched[ident] = { run.pool_id, worker.name }
  assigned.runs, assigned.bytes = assigned.runs + 1, assigned.bytes + #packed
end

-- One message for each worker, with its runs in the order of their assignment.
local function send_assignments(pool_id, pool)
  for worker, runs in pairs(inboxes) do
    local ident = pool_id .. '/' .. worker
    send_to(ident, pool .. '/' .. worker, 'assign_runs', ',"boot_id":' .. cjson.encode(boots[ident]) .. ',"pool":' ..
      cjson.encode(pool), runs)
  end
end
