-- packing: Keep small what waits by the million: the id of a run's queue as 16 bytes, its specification without what most have.
--
-- RETURNS   pack_id(uuid), pack_spec(json), unpack_spec(packed); includes/runs.lua and penstock.client.records unpack, too
-- COST      O(bytes)
-- RULE      penstock.client.records.spec_of

local function pack_id(uuid)
  return (uuid:gsub('-', ''):gsub('%x%x', function(byte) return string.char(tonumber(byte, 16)) end))
end

-- One that begins with an entrypoint loses what it has in common with all others of its kind.
local OPENING = '{"entrypoint":"'
local function pack_spec(json)
  local first = json:sub(#OPENING + 1, #OPENING + 1)
  if json:sub(1, #OPENING) ~= OPENING or first == '{' or first == '' or json:sub(-1) ~= '}' then return json end
  return json:sub(#OPENING + 1, -2)
end

-- In three pieces, to be put together where they are needed: most specifications are long.
local function unpack_spec(packed)
  if packed:sub(1, 1) == '{' then return '', packed, '' end
  return OPENING, packed, '}'
end
