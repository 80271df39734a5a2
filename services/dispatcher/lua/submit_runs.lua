-- submit_runs: Put runs into queues of one pool, each once however often it is sent.
--
-- KEYS      events       STREAM  the partition's events
-- ARGV      command_id   names the command and its answer; '' means nobody waits
-- ARGV      deadline     ms of Redis TIME after which nothing is accepted, '' for never
-- ARGV      pool         name of the pool
-- ARGV      final        '1': refuse runs whose queue does not exist; '0': answer nothing when there is one, the caller creates it
-- ARGV      malformed    rows of what was sent as runs and is none, for the answer: JSON, between commas, may be ''
-- ARGV      home         number of this partition; a run id must name it
-- ARGV      ...runs      9 values a run: id, name, queue name, due in ms ('' for now), spec as JSON, deployment id or '', what
--           scheduled it ('<schedule id> <revision> <catch_up>') or '', idempotency key or '', '<retries> <delay ms>' or ''
-- USES      deployment deployment_waiting idempotency pool_queue_names pools run waiting
-- INCLUDES  clock events runs packing replies submissions
-- CONSTANTS IDEMPOTENCY_MS
-- RETURNS   'unknown_pool' | 'expired' | {for every run one of 'accepted', 'known', 'unknown_queue', 'foreign', 'stale' (its
--           deployment has changed since) or 'same <id>' (the run that has its idempotency key); the rows of those refused, JSON}
-- COST      O(log waiting) a run
-- RULE      rules.submission
local _ = events
local pool_id = redis.call('HGET', key_pools(), pool)
if not pool_id then
  push_refusal(command_id, 'not_found', "work pool '" .. pool .. "' does not exist", "penstock work-pool create '" .. pool .. "'")
  return 'unknown_pool'
end
-- One that was begun in time is finished: it comes again when a queue had to be made, or a dispatcher died.
local function is_begun()
  for index = runs_from, #ARGV, 9 do if redis.call('EXISTS', key_run(ARGV[index])) == 1 then return true end end
end
if expired(deadline) and not is_begun() then
  push_refusal(command_id, 'expired', "the submission's deadline had passed before it was read")
  return 'expired'
end

local queues, missing = {}, false
local function queue_named(name)
  if not queues[name] then
    local queue_id = redis.call('HGET', key_pool_queue_names(pool_id), name)
    if not queue_id then return nil end
    queues[name] = { id = queue_id, packed = pack_id(queue_id), related = related_to(pool_id, queue_id) }
  end
  return queues[name]
end

-- Remembers the key for a while after the run was due; answers the run that came first, if there is one.
local function remember_key(hashed, run_id, due)
  local first = redis.call('GET', key_idempotency(hashed))
  if first then return first end
  redis.call('SET', key_idempotency(hashed), run_id, 'PX', math.max(tonumber(due) - now_ms, 0) + IDEMPOTENCY_MS)
end

local function accept_run(queue, run_id, name, due, spec, deployment_id, auto, hashed, retry)
  local fields = { 'name', name, 'queue', queue.packed, 'spec', pack_spec(spec) }
  for field, value in pairs({ deployment_id = deployment_id, auto = auto, key = hashed, retry = retry }) do
    if value ~= '' then
      table.insert(fields, field)
      table.insert(fields, value)
    end
  end
  redis.call('HSET', key_run(run_id), unpack(fields))
  redis.call('ZADD', key_waiting(queue.id), due, run_id)
  if deployment_id ~= '' then redis.call('ZADD', key_deployment_waiting(deployment_id), due, run_id) end
  move_run({ id = run_id, name = name, seq = 0, run_count = 0, queue_id = queue.id, related = queue.related,
    deployment_id = deployment_id ~= '' and deployment_id or nil }, nil, 'SCHEDULED', '')
  return 'accepted'
end

local function submit(run_id, name, queue_name, due, spec, deployment_id, auto, idempotency, retry)
  -- Nobody would find it: readers take the partition from the id.
  if tonumber(run_id:sub(-4), 16) ~= tonumber(home) then
    return refuse_run(run_id, 'foreign', 'invalid',
      string.format('the id must end in %04x, the partition of its pool in hexadecimal digits', home))
  end
  -- A run that was accepted once stays known when its queue is deleted: sending it again must not ask for the queue again.
  if redis.call('EXISTS', key_run(run_id)) == 1 then return 'known' end
  if auto ~= '' and redis.call('HGET', key_deployment(deployment_id), 'revision') ~= auto:match('^%S+ (%d+)') then
    return refuse_run(run_id, 'stale', 'stale', 'its deployment has changed since the schedule was read')
  end
  local queue = queue_named(queue_name)
  if not queue then
    missing = true
    return refuse_run(run_id, 'unknown_queue', 'not_found', "work queue '" .. queue_name .. "' does not exist")
  end
  if due == '' then due = now_text end
  local hashed = ''
  if idempotency ~= '' then
    hashed = redis.sha1hex((deployment_id ~= '' and deployment_id or pool_id) .. '/' .. idempotency)
    local first = remember_key(hashed, run_id, due)
    if first then return 'same ' .. first end
  end
  return accept_run(queue, run_id, name, due, spec, deployment_id, auto, hashed, retry)
end

local answers = {}
for index = runs_from, #ARGV, 9 do
  local word = submit(unpack(ARGV, index, index + 8))
  note_word(ARGV[index], word)
  answers[#answers + 1] = word
end
if final == '1' or not missing then push_result(command_id, submission_result(malformed)) end
return { answers, refused_rows() }
