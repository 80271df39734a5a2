-- draining: Tell a worker that it is to end, as often as it may have lost the message.
--
-- USES      slots
-- RETURNS   tell_to_stop(ident, inbox): 1 if this life of the worker is being drained and was told so
-- COST      O(1)
-- RULE      services.dispatcher.rules.drain_left_ms

local function tell_to_stop(ident, inbox)
  local about = redis.call('HMGET', key_slots(ident), 'boot_id', 'draining', 'drain_until')
  if not about[2] or about[2] ~= about[1] then return 0 end
  local left = 'null'
  if about[3] ~= '' then left = string.format('%.3f', math.max(0, tonumber(about[3]) - now_ms) / 1000) end
  send_to(ident, inbox, 'stop_worker', ',"boot_id":' .. cjson.encode(about[1]) .. ',"deadline_seconds":' .. left)
  return 1
end
