-- forget_deliveries: Take from the groups that read the events what they never acknowledged and what is not kept any more.
--
-- KEYS      events     STREAM  the partition's events
-- ARGV      most       deliveries forgotten at most
-- RETURNS   deliveries forgotten
-- COST      O(groups + deliveries forgotten)
-- RULE      none
local oldest = redis.call('XRANGE', events, '-', '+', 'COUNT', 1)[1]
if not oldest then return 0 end
local left = tonumber(most)
for _, fields in ipairs(redis.call('XINFO', 'GROUPS', events)) do
  local about = {}
  for index = 1, #fields, 2 do about[fields[index]] = fields[index + 1] end
  local pending = about.pending > 0 and left > 0
    and redis.call('XPENDING', events, about.name, '-', '(' .. oldest[1], left) or {}
  local gone = {}
  for index, delivery in ipairs(pending) do gone[index] = delivery[1] end
  if #gone > 0 then left = left - redis.call('XACK', events, about.name, unpack(gone)) end
end
return tonumber(most) - left
