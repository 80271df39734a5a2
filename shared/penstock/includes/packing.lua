-- packing: Keep small what waits by the million: the id of a run's queue as 16 bytes, its specification without what most have.
--
-- RETURNS   pack_id(uuid), pack_spec(json), unpack_spec(packed); includes/runs.lua and penstock.client.records unpack, too
-- COST      O(bytes)
-- RULE      penstock.client.records.spec_of

local function pack_id(uuid)
  return (uuid:gsub('-', ''):gsub('%x%x', function(byte) return string.char(tonumber(byte, 16)) end))
end

-- One that begins with an entrypoint and parameters becomes a line with the entrypoint, and what comes after it.
local function pack_spec(json)
  local entrypoint, rest = json:match('^{"entrypoint":"([^"\\{][^"\\]*)","parameters":(.*)}$')
  return entrypoint and entrypoint .. '\n' .. rest or json
end

-- In five pieces, to be put together where they are needed: most specifications are long.
local function unpack_spec(packed)
  local entrypoint, rest = packed:match('^([^{\n][^\n]*)\n(.*)$')
  if not entrypoint then return packed, '', '', '', '' end
  return '{"entrypoint":"', entrypoint, '","parameters":', rest, '}'
end
