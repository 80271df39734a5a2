-- claim_runs: Hand due runs of one pool to workers with free slots, in queue order, never above a limit.
--
-- KEYS      events       STREAM  the partition's events
-- ARGV      pool         name of the pool
-- ARGV      max_runs     how many at most in this call, 1..1000
-- ARGV      max_bytes    stop after specifications of this size as they are kept, so that no inbox entry gets huge
-- ARGV      max_set_aside  how many runs at most are parked or dropped in this call
-- ARGV      nonce        unguessable text; claim tokens are derived from it
-- ARGV      retention    seconds a finished run is kept
-- ARGV      kept         how many finished runs a pool keeps
-- USES      due pool pool_in_flight pool_prefetch pool_queues pools queue queue_in_flight related waiting
-- INCLUDES  clock events runs packing parking sets slots admission placement inboxes assignment
-- RETURNS   {claimed, ms of the next moment something falls due or '', 1 if one of the bounds ended the call else 0}
-- COST      O(queues + (claimed + set aside) * (log waiting + candidates))
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
local assigned = { runs = 0, bytes = 0 }
local aside, next_due = 0, nil

-- Looks at the next heads of a queue, perhaps again; returns how many stay where they are, and whether there may be more behind.
local function serve(queue, skipped, left)
  local most = math.min(left, heads_worth(pool_id, queue.id))
  local heads = redis.call('ZRANGEBYSCORE', key_waiting(queue.id), '-inf', horizon, 'WITHSCORES', 'LIMIT', skipped, most)
  if #heads == 0 then return 0, false end
  -- Who may start early matters only when a run of the future is among the heads.
  local workers = candidates(pool_id, queue.id, tonumber(heads[#heads]) > now_ms and -1 or #heads / 2 - 1)
  local staying, over = 0, false
  for index = 1, #heads, 2 do
    local due_ms = tonumber(heads[index + 1])
    local worker = pick(pool_id, workers, due_ms)
    over = not worker or assigned.bytes >= tonumber(max_bytes) or aside >= tonumber(max_set_aside)
    if over then break end
    if not queue.related then
      queue.related = related_to(pool_id, queue.id)
      redis.call('SET', key_related(queue.id), queue.related)
    end
    local run = read_run(heads[index])
    local verdict = 'gone'
    if run then
      run.related, run.pool_id = queue.related, pool_id
      verdict = admit(run, queue.id, due_ms, retention)
    else
      redis.call('ZREM', key_waiting(queue.id), heads[index])
    end
    if verdict == 'go' then assign(assigned, queue, run, heads[index + 1], worker, nonce) end
    if verdict == 'gone' then aside = aside + 1 end
    if verdict == 'stays' then staying = staying + 1 end
  end
  for _, touched in pairs(free_touched) do refresh_free(touched[1], touched[2]) end
  return staying, not over and #heads / 2 == most
end

local function room_in(queue)
  local values = redis.call('HMGET', key_queue(queue.id), 'name', 'is_paused', 'concurrency_limit')
  queue.name = values[1]
  local left, limit = room - assigned.runs, tonumber(values[3])
  if limit then left = math.min(left, limit - redis.call('ZCARD', key_queue_in_flight(queue.id))) end
  return values[2] == 'false' and left or 0
end

for _, queue_id in ipairs(redis.call('ZRANGE', key_pool_queues(pool_id), 0, -1)) do
  local queue = { id = queue_id }
  local left = is_idle(pool_id, queue_id) and 0 or room_in(queue)
  if left > 0 then
    unpark_queue(queue_id, 1000)
    local most, skipped, more = assigned.runs + left, 0, true
    while more and assigned.runs < most do
      local staying
      staying, more = serve(queue, skipped, most - assigned.runs)
      skipped = skipped + staying
      -- One that was dropped makes room for one that was parked, and that is due before those that stay.
      if unpark_freed() > 0 then skipped, more = 0, true end
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

send_assignments(pool_id, pool)
if next_due then redis.call('ZADD', key_due(), next_due, pool) else redis.call('ZREM', key_due(), pool) end
settle(retention, kept)
local cut = assigned.runs == tonumber(max_runs) or assigned.bytes >= tonumber(max_bytes) or aside >= tonumber(max_set_aside)
-- The caller goes on at once; if it dies before, the due clock of another one has to know.
if cut then redis.call('ZADD', key_due(), 'LT', now_text, pool) end
return { assigned.runs, next_due and string.format('%.0f', next_due) or '', cut and 1 or 0 }
