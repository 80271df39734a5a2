-- placement: Choose the worker that takes a run.
--
-- USES      pool_free pool_prefetch queue_free
-- RETURNS   candidates(pool_id, queue_id, last), pick(pool_id, workers, due_ms)
-- COST      O(candidates) a run
-- RULE      services.dispatcher.rules.pick_worker

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

local function pick(pool_id, workers, due_ms)
  local best = nil
  for _, worker in ipairs(workers) do
    if worker.free > 0 and (not best or worker.rank < best.rank or (worker.rank == best.rank and
      (worker.free > best.free or (worker.free == best.free and worker.name > best.name)))) and reaches(pool_id, worker, due_ms) then
      best = worker
    end
  end
  return best
end
