-- submit_runs: Put runs into queues of one pool, each once however often it is sent.
--
-- KEYS      events       STREAM  the partition's events
-- ARGV      pool         name of the pool
-- ARGV      deadline     ms of Redis TIME after which nothing is accepted, '' for never
-- ARGV      home         number of this partition; a run id must name it
-- ARGV      ...runs      5 values a run: id, name, queue name, due in ms ('' for now), spec as JSON
-- USES      pool_queue_names pools run waiting
-- INCLUDES  clock events runs
-- RETURNS   'unknown_pool' | 'expired' | one of 'accepted', 'known', 'unknown_queue', 'foreign' for every run
-- COST      O(log waiting) a run
-- RULE      rules.submission
local _ = events
local pool_id = redis.call('HGET', key_pools(), pool)
if not pool_id then return 'unknown_pool' end
if deadline ~= '' and now_ms > tonumber(deadline) then return 'expired' end

local queues = {}
local function queue_named(name)
  if not queues[name] then
    local queue_id = redis.call('HGET', key_pool_queue_names(pool_id), name)
    if not queue_id then return nil end
    queues[name] = { id = queue_id, related = related_to(pool_id, queue_id) }
  end
  return queues[name]
end

local answers = {}
for index = runs_from, #ARGV, 5 do
  local run_id, name, due, spec = ARGV[index], ARGV[index + 1], ARGV[index + 3], ARGV[index + 4]
  -- A run that was accepted once stays known when its queue is deleted: sending it again must not ask for the queue again.
  local known = redis.call('EXISTS', key_run(run_id)) == 1
  local queue = not known and queue_named(ARGV[index + 2])
  if tonumber(run_id:sub(-4), 16) ~= tonumber(home) then
    -- Nobody would find it: readers take the partition from the id.
    answers[#answers + 1] = 'foreign'
  elseif known then
    answers[#answers + 1] = 'known'
  elseif not queue then
    answers[#answers + 1] = 'unknown_queue'
  else
    if due == '' then due = string.format('%.0f', now_ms) end
    redis.call('HSET', key_run(run_id), 'name', name, 'queue_id', queue.id, 'spec', spec)
    redis.call('ZADD', key_waiting(queue.id), due, run_id)
    move_run({ id = run_id, name = name, seq = 0, run_count = 0, related = queue.related }, nil, 'SCHEDULED', '')
    answers[#answers + 1] = 'accepted'
  end
end
return answers
