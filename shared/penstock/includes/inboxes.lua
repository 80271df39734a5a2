-- inboxes: Put a message into a worker's inbox, which keeps no more than the worker can still need.
--
-- USES      inbox slots
-- CONSTANTS INBOX_BEYOND_SLOTS INBOX_MAX_LENGTH
-- RETURNS   send_to(ident, inbox, kind, about, runs)
-- COST      O(1)
-- RULE      none

-- ident is '<pool id>/<worker>', inbox '<pool>/<worker>', about what follows the type in the message: '' or a JSON text that begins
-- with a comma; runs are JSON texts, nil where the message has none. What a worker has not read are at most as many assignments as
-- it has slots, and word of what was taken away again; what a careless one never deletes must not pile up.
local function send_to(ident, inbox, kind, about, runs)
  local most = 2 * tonumber(redis.call('HGET', key_slots(ident), 'slots') or 0) + INBOX_BEYOND_SLOTS
  redis.call('XADD', key_inbox(inbox), 'MAXLEN', '~', string.format('%.0f', math.min(most, INBOX_MAX_LENGTH)), '*', 'type', kind,
    '__data__', '{"type":"' .. kind .. '"' .. about .. (runs and ',"runs":[' or '') .. (runs and table.concat(runs, ',') or '') ..
    (runs and ']}' or '}'))
end
