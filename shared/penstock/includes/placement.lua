-- placement: Choose the worker that takes a run, and see at little cost where nobody can take one.
--
-- USES      pool_free pool_prefetch queue_free queue_parked waiting
-- RETURNS   is_idle(pool_id, queue_id), heads_worth(pool_id, queue_id), candidates(pool_id, queue_id, last), pick(pool_id, workers, due_ms)
-- COST      O(candidates) a run
-- RULE      services.dispatcher.rules.pick_worker

-- A pool may have a thousand queues: one in which nothing waits, or that nobody is free for, must cost next to nothing. Whoever gets
-- free claims again, so until then nothing falls due there either.
local function is_idle(pool_id, queue_id)
  return redis.call('EXISTS', key_pool_free(pool_id), key_queue_free(queue_id)) == 0 or
    redis.call('EXISTS', key_waiting(queue_id), key_queue_parked(queue_id)) == 0
end

-- How many of the first runs of a queue are worth reading: as many as find a free slot if all workers had as many as the best one,
-- and some more, for some may be set aside.
local SPARE_HEADS = 10
local function heads_worth(pool_id, queue_id)
  local most = SPARE_HEADS
  for _, key in ipairs({ key_queue_free(queue_id), key_pool_free(pool_id) }) do
    local best = redis.call('ZREVRANGE', key, 0, 0, 'WITHSCORES')[2]
    if best then most = most + tonumber(best) * redis.call('ZCARD', key) end
  end
  return most
end

-- Candidates for one queue: workers that name it before workers that serve every queue, most free slots first.
local function candidates(pool_id, queue_id, last)
  local found = {}
  for rank, key in ipairs({ key_queue_free(queue_id), key_pool_free(pool_id) }) do
    local rows = redis.call('ZREVRANGE', key, 0, last, 'WITHSCORES')
    for index = 1, #rows, 2 do
      found[#found + 1] = { name = rows[index], free = tonumber(rows[index + 1]), rank = rank }
    end
  end
  return found
end

local function reaches(pool_id, worker, due_ms)
  if due_ms <= now_ms then return true end
  worker.prefetch = worker.prefetch or tonumber(redis.call('ZSCORE', key_pool_prefetch(pool_id), worker.name) or 0)
  return due_ms <= now_ms + worker.prefetch
end

-- Those of a lower rank come first among the workers, so one that is looked at later never has a better one.
local function pick(pool_id, workers, due_ms)
  local best = nil
  for _, worker in ipairs(workers) do
    if worker.free > 0 and (not best or (worker.rank == best.rank and (worker.free > best.free or
      (worker.free == best.free and worker.name > best.name)))) and reaches(pool_id, worker, due_ms) then
      best = worker
    end
  end
  return best
end
