-- expire_workers: Declare OFFLINE who has not been heard of in time; after an outage give everybody a new deadline instead.
--
-- KEYS      events     STREAM  the partition's events
-- ARGV      group      consumer group that reads the heartbeats
-- ARGV      outage_ms  liveness not judged for longer than this, or heartbeats unread for longer: there was an outage
-- ARGV      in_hand_ms read and not acknowledged for at most this long: a monitor is applying it
-- ARGV      missed     intervals without a heartbeat that make a worker OFFLINE
-- ARGV      again_ms   when to look again at who is overdue while a heartbeat may be on its way
-- ARGV      limit      workers judged at most
-- USES      heartbeats liveness liveness_tick worker
-- INCLUDES  clock events readiness workers
-- RETURNS   {what: 'judged', 'extended' or 'behind', workers declared OFFLINE, ms until the next deadline or -1}
-- COST      O(limit), after an outage O(ONLINE workers)
-- RULE      rules.was_outage, rules.extended_deadline_ms, rules.is_lost

-- Since when the oldest heartbeat that nobody has read lies there, and up to when all have been applied; now if there is none.
local function listen()
  local unread_ms, heard_ms = now_ms, now_ms
  local groups = redis.pcall('XINFO', 'GROUPS', key_heartbeats())
  for _, fields in ipairs(groups.err and {} or groups) do
    local about = {}
    for index = 1, #fields, 2 do about[fields[index]] = fields[index + 1] end
    if about.name == group then
      local unread = redis.call('XRANGE', key_heartbeats(), '(' .. about['last-delivered-id'], '+', 'COUNT', 1)[1]
      local pending = redis.call('XPENDING', key_heartbeats(), group, '-', '+', 1)[1]
      if unread then unread_ms = tonumber(unread[1]:match('^%d+')) end
      -- Longer than that it is in nobody's hands but in the reclaimer's queue, and must not hold up the others.
      heard_ms = pending and pending[3] <= tonumber(in_hand_ms) and tonumber(pending[1]:match('^%d+')) or unread_ms
    end
  end
  return unread_ms, math.min(now_ms, heard_ms, unread_ms)
end

local function extend_all()
  for _, ident in ipairs(redis.call('ZRANGE', key_liveness(), 0, -1)) do
    local interval = tonumber(redis.call('HGET', key_worker(ident), 'interval_ms') or 0)
    redis.call('ZADD', key_liveness(), 'GT', string.format('%.0f', now_ms + missed * interval), ident)
  end
end

local function judge(ident)
  local pool_id, name = ident:match('^([^/]+)/(.*)$')
  local pool = load_pool(pool_id)
  local worker = pool and read_worker(pool, name)
  if worker and worker.status == 'ONLINE' then
    lose_worker(worker, 'heartbeat-lost')
    return 1
  end
  -- Its pool is gone, and the message that says so is on its way.
  redis.call('ZREM', key_liveness(), ident)
  return 0
end

local unread_ms, heard_ms = listen()
if now_ms - unread_ms > tonumber(outage_ms) then
  -- What would keep them alive may lie unread. Without a tick the next sweep extends before it judges.
  redis.call('DEL', key_liveness_tick())
  return { 'behind', 0, -1 }
end
local tick = redis.call('GET', key_liveness_tick())
local outage = not tick or now_ms - tonumber(tick) > tonumber(outage_ms)
redis.call('SET', key_liveness_tick(), now_text)
if outage then extend_all() end

local lost = 0
local due = redis.call('ZRANGEBYSCORE', key_liveness(), '-inf', '(' .. string.format('%.0f', heard_ms), 'LIMIT', 0, limit)
for _, ident in ipairs(due) do lost = lost + judge(ident) end
local first = redis.call('ZRANGE', key_liveness(), 0, 0, 'WITHSCORES')[2]
local wait_ms = first and tonumber(first) + 1 - now_ms or -1
-- Overdue, but a heartbeat on its way may save it: look again soon, and at once only when the limit was reached.
if first and wait_ms < 1 then wait_ms = #due == tonumber(limit) and 0 or tonumber(again_ms) end
return { outage and 'extended' or 'judged', lost, wait_ms }
