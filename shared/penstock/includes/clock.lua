-- clock: Redis TIME, read once per script, and its ISO 8601 text.
--
-- RETURNS   now_ms, now_text (the same as digits), now_iso, iso(seconds, microseconds), digits[n]
-- COST      O(1)
-- RULE      none
local clock_ = redis.call('TIME')
local now_ms = tonumber(clock_[1]) * 1000 + math.floor(tonumber(clock_[2]) / 1000)
-- Lua and Redis spell a number by printf each time it meets a text, which costs more than most commands: once a script is enough.
local now_text = string.format('%.0f', now_ms)
local digits = setmetatable({}, { __index = function(known, number)
  local text = string.format('%.0f', number)
  known[number] = text
  return text
end })

-- Days to a civil date without a calendar library: the Gregorian rule in 400-year eras counted from 1 March.
local function iso(seconds, microseconds)
  local days = math.floor(seconds / 86400)
  local rest = seconds - days * 86400
  local shifted = days + 719468
  local era = math.floor(shifted / 146097)
  local day_of_era = shifted - era * 146097
  local year_of_era = math.floor((day_of_era - math.floor(day_of_era / 1460) + math.floor(day_of_era / 36524)
    - math.floor(day_of_era / 146096)) / 365)
  local day_of_year = day_of_era - (365 * year_of_era + math.floor(year_of_era / 4) - math.floor(year_of_era / 100))
  local month_index = math.floor((5 * day_of_year + 2) / 153)
  local day = day_of_year - math.floor((153 * month_index + 2) / 5) + 1
  local month = month_index < 10 and month_index + 3 or month_index - 9
  local year = year_of_era + era * 400 + (month <= 2 and 1 or 0)
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%06dZ', year, month, day, math.floor(rest / 3600),
    math.floor(rest % 3600 / 60), rest % 60, microseconds)
end

local now_iso = iso(tonumber(clock_[1]), tonumber(clock_[2]))
