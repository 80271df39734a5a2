-- priorities: Make room for a queue among the priorities of its pool.
--
-- USES      pool_queues queue
-- CONSTANTS MAX_PRIORITY
-- RETURNS   free_priority(pool), make_room(pool, priority, mover), refuse_room(command_id, pool, priority)
-- COST      make_room O(shifted queues * log queues), free_priority O(queues)
-- RULE      services.pool_registry.rules.place_priority

local function free_priority(pool)
  local free = 1
  local taken = redis.call('ZRANGE', key_pool_queues(pool.id), 0, -1, 'WITHSCORES')
  for index = 2, #taken, 2 do
    if tonumber(taken[index]) > free then break end
    free = free + 1
  end
  return free
end

-- Shifts the unbroken run of taken numbers that begins at priority up by one; the place of the mover, a queue id, is free. False,
-- and nothing is changed, where the last of them would pass the largest number a queue can have.
local function make_room(pool, priority, mover)
  local holders, at = {}, tonumber(priority)
  while true do
    local id = redis.call('ZRANGEBYSCORE', key_pool_queues(pool.id), at, at)[1]
    if not id or id == mover then break end
    table.insert(holders, id)
    at = at + 1
  end
  if at > MAX_PRIORITY then return false end
  for index, id in ipairs(holders) do
    change_queue(pool, read_record(key_queue(id), id),
      { 'priority', string.format('%.0f', tonumber(priority) + index) })
  end
  return true
end

local function refuse_room(command_id, pool, priority)
  return refuse(command_id, 'conflict', 'pool ' .. pool.name .. ' has no room at priority ' .. priority ..
    ': the queues there would be shifted past the largest number, ' .. MAX_PRIORITY, 'choose a smaller number')
end
