-- apply_heartbeats: Take heartbeats of one partition in their order, and make of each what it changes.
--
-- KEYS      events         STREAM  the partition's events
-- ARGV      kept           superseded lives of one worker that are remembered
-- ARGV      ...heartbeats  six each: pool, worker, stream entry id, seq, deadline in ms of Redis TIME, and the facts: a JSON
--                          object of texts that are fields of the worker's hash (plus stopping: '1' in a last heartbeat)
-- USES      liveness pool_workers pools worker
-- INCLUDES  clock events readiness workers arrivals
-- RETURNS   one word each: renewed, changed, stale, unknown_pool, wrong_type or superseded
-- COST      three commands for a heartbeat that says nothing new, else O(queues of the pool)
-- RULE      rules.decide, rules.after
local pool_ids = {}

local function newer(entry_id, than)
  if not than then return true end
  local ms, count = entry_id:match('^(%d+)-(%d+)$')
  local than_ms, than_count = than:match('^(%d+)-(%d+)$')
  if ms == than_ms then return tonumber(count) > tonumber(than_count) end
  return tonumber(ms) > tonumber(than_ms)
end

local function change(worker, known, entry_id, seq, deadline, facts)
  local stopping = worker.stopping == '1'
  local fields = { 'status', stopping and 'OFFLINE' or 'ONLINE', 'name', worker.name, 'entry_id', entry_id, 'seq', seq,
    'last_heartbeat_ms', entry_id:match('^%d+'), 'facts', facts }
  for field, value in pairs(cjson.decode(facts)) do
    if field ~= 'stopping' then
      table.insert(fields, field)
      table.insert(fields, value)
    end
  end
  if known.boot_id and worker.boot_id ~= known.boot_id then
    table.insert(fields, 'previous_boot_ids')
    table.insert(fields, superseded_with(known, tonumber(kept)))
  end
  redis.call('HSET', key_worker(worker.ident), unpack(fields))
  redis.call('SADD', key_pool_workers(worker.pool.id), worker.name)
  if not stopping then
    -- GT: what an outage extended is not taken back, unless the worker promises another interval.
    redis.call('ZADD', key_liveness(), worker.interval_ms == known.interval_ms and 'GT' or 'CH', deadline, worker.ident)
    come_online(worker, known)
  elseif known.status == 'ONLINE' then
    lose_worker(read_worker(worker.pool, worker.name), 'stopped')
  else
    redis.call('HDEL', key_worker(worker.ident), 'started')
    keep_for_a_while(worker)
  end
end

local function consider(pool_name, name, entry_id, seq, deadline, facts)
  local worker = cjson.decode(facts)
  local pool = pool_ids[pool_name] and load_pool(pool_ids[pool_name])
  worker.name, worker.pool, worker.ident = name, pool, pool and pool.id .. '/' .. name
  local known = pool and read_worker(pool, name)
  if not pool then
    refuse_worker(worker, pool_name, 'unknown_pool', 'there is no work pool ' .. cjson.encode(pool_name))
    return 'unknown_pool'
  elseif cjson.decode(pool.type) ~= worker.type then
    refuse_worker(worker, pool_name, 'wrong_type',
      'work pool ' .. pool.name .. ' takes workers of type ' .. pool.type .. ', not ' .. cjson.encode(worker.type))
    return 'wrong_type'
  elseif not newer(entry_id, known.entry_id) then
    return 'stale'
  elseif is_superseded(known, worker.boot_id) then
    refuse_worker(worker, pool_name, 'superseded', 'a newer process has taken the name ' .. cjson.encode(name))
    return 'superseded'
  end
  change(worker, known, entry_id, seq, deadline, facts)
  return 'changed'
end

local function apply(pool_name, name, entry_id, seq, deadline, facts)
  if pool_ids[pool_name] == nil then pool_ids[pool_name] = redis.call('HGET', key_pools(), pool_name) end
  if pool_ids[pool_name] then
    local ident = pool_ids[pool_name] .. '/' .. name
    local last = redis.call('HMGET', key_worker(ident), 'facts', 'status', 'entry_id')
    if last[1] == facts and last[2] == 'ONLINE' then
      if not newer(entry_id, last[3]) then return 'stale' end
      redis.call('HSET', key_worker(ident), 'entry_id', entry_id, 'seq', seq, 'last_heartbeat_ms', entry_id:match('^%d+'))
      -- GT: after an outage the deadline may be later than this heartbeat alone would have it.
      redis.call('ZADD', key_liveness(), 'GT', deadline, ident)
      return 'renewed'
    end
  end
  return consider(pool_name, name, entry_id, seq, deadline, facts)
end

local answers = {}
for index = heartbeats_from, #ARGV, 6 do table.insert(answers, apply(unpack(ARGV, index, index + 5))) end
return answers
