-- workers: What is said of a worker: its events, word to the dispatcher, a refusal into its inbox; and how it goes OFFLINE.
--
-- USES      dispatch inbox liveness refused worker
-- CONSTANTS DISPATCH_MAX_LENGTH INBOX_MAX_LENGTH
-- RETURNS   read_worker(pool, name), publish_worker(worker, event, payload, follows), announce_worker(worker),
--           refuse_worker(worker, pool_name, code, reason), keep_for_a_while(worker), lose_worker(worker, reason)
-- COST      O(1), lose_worker O(queues of the pool)
-- RULE      penstock.contracts.events.worker_identity

-- A worker that left is remembered for a day, for those who ask what became of it.
local OFFLINE_KEPT_SECONDS = 86400
-- A refusal is said once per life and reason; after this long it may be said again.
local REFUSED_SECONDS = 3600

-- A worker is its hash (raw texts) plus pool (see load_pool), name and ident; without status when it is not known.
local function read_worker(pool, name)
  local worker = { pool = pool, name = name, ident = pool.id .. '/' .. name }
  local fields = redis.call('HGETALL', key_worker(worker.ident))
  for index = 1, #fields, 2 do worker[fields[index]] = fields[index + 1] end
  return worker
end

-- The pool a worker's event is related to: by the name it came with, if there is such a pool.
local function pool_of(worker)
  return worker.pool and '[{"prefect.resource.id":"prefect.work-pool.' .. worker.pool.id ..
    '","prefect.resource.role":"work-pool","prefect.resource.name":' .. worker.pool.name .. '}]' or '[]'
end

local function labels(worker, resource_id)
  return worker_resource(resource_id, cjson.encode(worker.name), cjson.encode(worker.type), cjson.encode(worker.version))
end

-- A worker counts its events in its own record and not in the ledger: names come and go, and the record expires with them. As the
-- count then starts anew, and as names are unique only within a pool, the identity says which record it is.
local function publish_worker(worker, event, payload, follows)
  local key = key_worker(worker.ident)
  redis.call('HSETNX', key, 'created_ms', now_text)
  local identity = worker.resource_id .. '|' .. worker.ident .. '|' .. redis.call('HGET', key, 'created_ms')
  return append_event(redis.call('HINCRBY', key, 'event_seq', 1), worker.resource_id, event, labels(worker, worker.resource_id),
    pool_of(worker), payload, follows, identity)
end

-- seq starts at the present in ms, so that it also grows when the worker's hash had expired in between.
local function tell_dispatcher(worker, kind, rest)
  local key = key_worker(worker.ident)
  redis.call('HSETNX', key, 'announced', now_text)
  local seq = redis.call('HINCRBY', key, 'announced', 1)
  redis.call('XADD', key_dispatch(), 'MAXLEN', '~', DISPATCH_MAX_LENGTH, '*', 'type', kind, '__data__',
    '{"type":"' .. kind .. '","pool_id":"' .. worker.pool.id .. '","pool":' .. worker.pool.name .. ',"worker":' ..
    cjson.encode(worker.name) .. ',"boot_id":' .. cjson.encode(worker.boot_id) .. ',"seq":' ..
    string.format('%.0f', seq) .. rest .. '}')
end

local function announce_worker(worker)
  tell_dispatcher(worker, 'announce_worker', ',"slots":' .. (worker.draining == '1' and '0' or worker.slots) ..
    ',"queues":' .. worker.queues .. ',"prefetch_ms":' .. worker.prefetch_ms)
end

local function refuse_worker(worker, pool_name, code, reason)
  local inbox = pool_name .. '/' .. worker.name
  local refusal = inbox .. '/' .. code .. '/' .. worker.boot_id
  if not redis.call('SET', key_refused(refusal), reason, 'NX', 'EX', REFUSED_SECONDS) then return end
  local about = '"boot_id":' .. cjson.encode(worker.boot_id) .. ',"code":"' .. code .. '","reason":' .. cjson.encode(reason) .. '}'
  redis.call('XADD', key_inbox(inbox), 'MAXLEN', '~', INBOX_MAX_LENGTH, '*', 'type', 'refuse_worker', '__data__',
    '{"type":"refuse_worker",' .. about)
  if not worker.pool or redis.call('HGET', key_worker(worker.pool.id .. '/' .. worker.name), 'status') ~= 'ONLINE' then
    -- Nobody may ever drain or delete the inbox of a worker that does not exist or has left.
    redis.call('XTRIM', key_inbox(inbox), 'MAXLEN', 100)
    redis.call('EXPIRE', key_inbox(inbox), REFUSED_SECONDS)
  end
  -- A refusal is a resource of its own and this its only event: anybody may be refused, so nothing may be kept of them for ever.
  -- Said again after a while, it has the same id: it is the same refusal.
  local resource_id = worker.resource_id .. '.refusal.' .. redis.sha1hex(refusal)
  append_event(1, resource_id, 'penstock.worker.refused', labels(worker, resource_id), pool_of(worker), '{' .. about, nil)
end

local function keep_for_a_while(worker)
  redis.call('EXPIRE', key_worker(worker.ident), OFFLINE_KEPT_SECONDS)
  redis.call('EXPIRE', key_inbox(cjson.decode(worker.pool.name) .. '/' .. worker.name), OFFLINE_KEPT_SECONDS)
end

-- An ONLINE worker goes OFFLINE, because it said so ('stopped') or because nothing was heard of it ('heartbeat-lost').
local function lose_worker(worker, reason)
  local at = tonumber(worker.last_heartbeat_ms)
  local before = readiness(worker.pool)
  redis.call('HSET', key_worker(worker.ident), 'status', 'OFFLINE')
  redis.call('ZREM', key_liveness(), worker.ident)
  bind_worker(worker.pool, worker.name, worker.queues, false)
  if reason == 'stopped' then
    publish_worker(worker, 'prefect.worker.stopped', '{}', worker.started)
    redis.call('HDEL', key_worker(worker.ident), 'started')
  end
  publish_worker(worker, 'penstock.worker.offline', '{"reason":"' .. reason .. '","last_heartbeat":"' ..
    iso(math.floor(at / 1000), at % 1000 * 1000) .. '"}')
  publish_readiness(worker.pool, before)
  tell_dispatcher(worker, 'lose_worker', ',"reason":"' .. reason .. '"')
  keep_for_a_while(worker)
end
