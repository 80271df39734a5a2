-- schedules: Find the schedules of a deployment and work out what becomes of them.
--
-- A new schedule comes as a row: id, anchor that was given, anchor to take otherwise, and the rest of its text. Anchors are JSON
-- texts; '' where none was given. The rest begins with the field `active`.
--
-- CONSTANTS MAX_SCHEDULES
-- RETURNS   schedule_of(row), merged_schedules(deployment, rows), find_schedule(deployment, ident),
--           replaced_schedule(text, row), switched_schedule(text, active), refuse_schedule(command_id, deployment, ident),
--           refuse_slug(command_id, deployment, slug), refuse_number(command_id, deployment)
-- COST      merged_schedules O(schedules * rows), find_schedule O(schedules)
-- RULE      services.pool_registry.rules.merged_schedules, replaced_schedule

local function schedule_text(id, anchor, rest)
  return '{"id":"' .. id .. '","anchor":' .. anchor .. ',' .. rest
end

local function schedule_of(row)
  return schedule_text(row[1], row[2] ~= '' and row[2] or row[3], row[4])
end

local function is_same(text, row)
  local _, anchor, rest = schedule_parts(text)
  return rest == row[4] and (row[2] == '' or row[2] == anchor)
end

-- The texts a deployment is to have; one that is there already stays as it is, its id and anchor included.
local function merged_schedules(deployment, rows)
  local left = { unpack(deployment.schedule_texts) }
  local texts = {}
  for number, row in ipairs(rows) do
    texts[number] = schedule_of(row)
    for index, text in ipairs(left) do
      if is_same(text, row) then
        texts[number] = table.remove(left, index)
        break
      end
    end
  end
  return texts
end

-- Its number in schedule_texts, and its text; an id wins over a slug.
local function find_schedule(deployment, ident)
  local number = nil
  for index, text in ipairs(deployment.schedule_texts) do
    if schedule_parts(text) == ident then return index, text end
    if cjson.decode(text).slug == ident then number = index end
  end
  return number, number and deployment.schedule_texts[number]
end

-- An interval goes on counting from where it did, unless it is told otherwise.
local function replaced_schedule(text, row)
  local id, anchor = schedule_parts(text)
  if row[2] ~= '' then return schedule_text(id, row[2], row[4]) end
  return schedule_text(id, (row[3] == 'null' or anchor == 'null') and row[3] or anchor, row[4])
end

local function switched_schedule(text, active)
  local id, anchor, rest = schedule_parts(text)
  return schedule_text(id, anchor, (rest:gsub('^"active":%a+', '"active":' .. active)))
end

local function refuse_schedule(command_id, deployment, ident)
  local idents = {}
  for index, text in ipairs(deployment.schedule_texts) do
    local slug = cjson.decode(text).slug
    idents[index] = slug ~= '' and slug or schedule_parts(text)
  end
  local hint = #idents == 0 and 'it has none' or 'there is: ' .. table.concat(idents, ', ')
  if #idents > 10 then hint = '`penstock deployment schedule ls` lists what exists' end
  return refuse(command_id, 'not_found', 'deployment ' .. deployment.name .. " has no schedule '" .. ident .. "'", hint)
end

local function refuse_slug(command_id, deployment, slug)
  return refuse(command_id, 'conflict', 'deployment ' .. deployment.name .. " has a schedule '" .. slug .. "' already",
    'choose another slug, or change the schedule there is')
end

local function refuse_number(command_id, deployment)
  return refuse(command_id, 'invalid', 'deployment ' .. deployment.name .. ' has ' .. MAX_SCHEDULES ..
    ' schedules, and cannot have more', 'delete one first')
end
