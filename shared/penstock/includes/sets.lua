-- sets: Let many runs enter or leave the same few sets in one step each.
--
-- RETURNS   later(command, key, run_id), write_later()
-- COST      O(1) a run, and that of the commands when they are written
-- RULE      none

-- Lua hands over only so many values at once; with their scores these are twice as many.
local AT_ONCE = 1000
local later_ = { ZREM = {}, SREM = {}, ZADD = {}, SADD = {} }

-- Whoever reads one of the sets writes first what is to come. No script takes a run out of a set and puts it in again.
local function write_later()
  for command, by_key in pairs(later_) do
    for key, values in pairs(by_key) do redis.call(command, key, unpack(values)) end
    if next(by_key) then later_[command] = {} end
  end
end

-- ZADD has the present moment as its score.
local function later(command, key, run_id)
  local values = later_[command][key] or {}
  later_[command][key] = values
  if command == 'ZADD' then values[#values + 1] = now_text end
  values[#values + 1] = run_id
  if #values >= AT_ONCE then write_later() end
end
