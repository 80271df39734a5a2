-- claim_runs: Hand due runs of one pool to workers with free slots, in queue order, never above a limit.
--
-- KEYS      events       STREAM  the partition's events
-- ARGV      pool         name of the pool
-- ARGV      max_runs     how many at most in this call, 1..1000
-- ARGV      max_bytes    stop after specifications of this size, so that no inbox entry gets huge
-- ARGV      nonce        unguessable text; claim tokens are derived from it
-- USES      due inbox pool pool_in_flight pool_prefetch pool_queues pools queue queue_in_flight related run slots slots_in_flight waiting
-- INCLUDES  clock events runs placement
-- CONSTANTS INBOX_MAX_LENGTH
-- RETURNS   {claimed, ms of the next moment something falls due or '', 1 if max_runs or max_bytes ended the call else 0}
-- COST      O(queues + claimed * (log waiting + candidates))
-- RULE      rules.plan_claims
local _ = events
local pool_id = redis.call('HGET', key_pools(), pool)
local about = pool_id and redis.call('HMGET', key_pool(pool_id), 'is_paused', 'concurrency_limit') or {}
local room = tonumber(max_runs)
local pool_limit = tonumber(about[2] or '')
if pool_limit then room = math.min(room, pool_limit - redis.call('ZCARD', key_pool_in_flight(pool_id))) end
if about[1] ~= 'false' or room <= 0 then
  redis.call('ZREM', key_due(), pool)
  return { 0, '', 0 }
end
local horizon = now_ms + tonumber(redis.call('ZREVRANGE', key_pool_prefetch(pool_id), 0, 0, 'WITHSCORES')[2] or 0)
local boots, inboxes, claimed, bytes, next_due = {}, {}, 0, 0, nil

local function claim(queue, run_id, due_ms, worker)
  local run = read_run(run_id)
  redis.call('ZREM', key_waiting(queue.id), run_id)
  if not run then return 0 end
  local ident = pool_id .. '/' .. worker.name
  boots[ident] = boots[ident] or redis.call('HGET', key_slots(ident), 'boot_id') or ''
  local epoch = tonumber(run.epoch or 0) + 1
  local token = redis.sha1hex(nonce .. run.id .. epoch):sub(1, 32)
  run.related = queue.related
  move_run(run, 'SCHEDULED', 'PENDING', '')
  redis.call('ZADD', key_pool_in_flight(pool_id), now_ms, run.id)
  redis.call('ZADD', key_queue_in_flight(queue.id), now_ms, run.id)
  redis.call('SADD', key_slots_in_flight(ident), run.id)
  redis.call('HSET', key_run(run.id), 'state', 'PENDING', 'seq', run.seq, 'pool_id', pool_id, 'worker', worker.name,
    'boot', boots[ident], 'token', token, 'epoch', epoch, 'claimed', string.format('%.0f', now_ms), 'due', due_ms)
  local spec = redis.call('HGET', key_run(run.id), 'spec')
  bytes = bytes + #spec
  inboxes[worker.name] = inboxes[worker.name] or {}
  table.insert(inboxes[worker.name], '{"id":"' .. run.id .. '","name":' .. cjson.encode(run.name) .. ',"token":"' .. token ..
    '","epoch":' .. epoch .. ',"queue":' .. queue.name .. ',"due_ms":' .. due_ms .. ',"spec":' .. spec .. '}')
  worker.free = worker.free - 1
  free_touched[ident] = { pool_id, worker.name }
  return 1
end

for _, queue_id in ipairs(redis.call('ZRANGE', key_pool_queues(pool_id), 0, -1)) do
  local values = redis.call('HMGET', key_queue(queue_id), 'name', 'is_paused', 'concurrency_limit')
  local queue = { id = queue_id, name = values[1] }
  local left, limit = room - claimed, tonumber(values[3])
  if limit then left = math.min(left, limit - redis.call('ZCARD', key_queue_in_flight(queue_id))) end
  if values[2] == 'false' and left > 0 then
    local heads = redis.call('ZRANGEBYSCORE', key_waiting(queue_id), '-inf', horizon, 'WITHSCORES', 'LIMIT', 0, left)
    -- Who may start early matters only when a run of the future is among the heads.
    local workers = #heads > 0 and candidates(pool_id, queue_id, tonumber(heads[#heads]) > now_ms and -1 or #heads / 2 - 1) or {}
    for index = 1, #heads, 2 do
      local worker = pick(pool_id, workers, tonumber(heads[index + 1]))
      if not worker or bytes >= tonumber(max_bytes) then break end
      if not queue.related then
        queue.related = related_to(pool_id, queue_id)
        redis.call('SET', key_related(queue_id), queue.related)
      end
      claimed = claimed + claim(queue, heads[index], heads[index + 1], worker)
    end
    for _, touched in pairs(free_touched) do refresh_free(touched[1], touched[2]) end
    local future = redis.call('ZRANGEBYSCORE', key_waiting(queue_id), '(' .. now_ms, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
    if future then
      local early = tonumber(future) - (horizon - now_ms)
      local wake = early > now_ms and early or tonumber(future)
      next_due = next_due and math.min(next_due, wake) or wake
    end
  end
end

for worker, runs in pairs(inboxes) do
  redis.call('XADD', key_inbox(pool .. '/' .. worker), 'MAXLEN', '~', INBOX_MAX_LENGTH, '*', 'type', 'assign_runs', '__data__',
    '{"type":"assign_runs","boot_id":' .. cjson.encode(boots[pool_id .. '/' .. worker]) .. ',"pool":' .. cjson.encode(pool) .. ',"runs":[' ..
    table.concat(runs, ',') .. ']}')
end
if next_due then redis.call('ZADD', key_due(), next_due, pool) else redis.call('ZREM', key_due(), pool) end
local cut = claimed == tonumber(max_runs) or bytes >= tonumber(max_bytes)
return { claimed, next_due and string.format('%.0f', next_due) or '', cut and 1 or 0 }
