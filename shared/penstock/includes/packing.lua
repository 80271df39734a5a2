-- packing: Keep small what waits by the million: the id of a run's queue as 16 bytes, its specification without what most have.
--
-- RETURNS   pack_id(uuid), pack_spec(json), unpack_spec(packed); includes/runs.lua and penstock.client.records unpack, too
-- COST      O(bytes)
-- RULE      penstock.client.records.spec_of

local function pack_id(uuid)
  return (uuid:gsub('-', ''):gsub('%x%x', function(byte) return string.char(tonumber(byte, 16)) end))
end

-- One that begins with an entrypoint and parameters becomes a line with the entrypoint, and what comes after it.
local OPENING, BETWEEN = '{"entrypoint":"', '","parameters":'
local function pack_spec(json)
  local at = json:sub(1, #OPENING) == OPENING and json:find(BETWEEN, #OPENING + 1, true)
  if not at or #json < at + #BETWEEN or json:sub(-1) ~= '}' then return json end
  local entrypoint = json:sub(#OPENING + 1, at - 1)
  if entrypoint == '' or entrypoint:sub(1, 1) == '{' or entrypoint:find('\n', 1, true) then return json end
  return entrypoint .. '\n' .. json:sub(at + #BETWEEN, -2)
end

-- In five pieces, to be put together where they are needed: most specifications are long.
local function unpack_spec(packed)
  if packed:sub(1, 1) == '{' then return packed, '', '', '', '' end
  local at = packed:find('\n', 1, true)
  return OPENING, packed:sub(1, at - 1), BETWEEN, packed:sub(at + 1), '}'
end
