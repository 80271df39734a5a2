-- create_deployment: Create a deployment with its schedules, or overwrite the one there is.
--
-- KEYS      events         STREAM  the partition's events
-- ARGV      command_id     names the command and its answer; '' means nobody waits
-- ARGV      deadline       ms of Redis TIME after which nothing must be done; '' means never
-- ARGV      entry          id of the stream entry it came in; '' where order does not count
-- ARGV      again          '1': it was handed out before
-- ARGV      deployment     its name, flow/deployment
-- ARGV      flow           first part of the name, a JSON text
-- ARGV      label          second part of the name, a JSON text
-- ARGV      flow_id        UUID of the flow, a JSON text
-- ARGV      deployment_id  UUID for the deployment; an existing one keeps its own
-- ARGV      pool           name of its pool
-- ARGV      paused         'true', 'false' or 'null': as it is, at first 'false'
-- ARGV      schedules      a JSON list of rows (see schedules.lua), 'null': as they are, at first none
-- ARGV      overwrite      '1': an existing deployment gets the fields
-- ARGV      ...fields      names of its other fields, the pool included, and their JSON texts, in turn
-- USES      deployment deployments
-- INCLUDES  clock events replies definitions changes deployments schedules
-- RETURNS   the answer with the whole deployment, a JSON text (penstock.contracts.replies)
-- COST      O(fields + schedules ^ 2)
-- RULE      rules.revises, rules.merged_schedules
local answered = settled(command_id, deadline, entry, again, 'deployment/' .. deployment)
if answered then return answered end
local found = find_deployment(deployment)
if found and overwrite ~= '1' then
  return refuse(command_id, 'conflict', "there is a deployment '" .. deployment .. "' already",
    'choose another name; `penstock deploy` overwrites it')
end
if not find_pool(pool) then return refuse_pool(command_id, pool) end

local fields = { unpack(ARGV, fields_from) }
local rows = schedules ~= 'null' and cjson.decode(schedules)
if found then
  if paused ~= 'null' then
    table.insert(fields, 'paused')
    table.insert(fields, paused)
  end
  change_deployment(found, fields, rows and merged_schedules(found, rows) or nil)
  return carried_out(command_id, deployment_json(found))
end

if redis.call('EXISTS', key_deployment(deployment_id)) == 1 then
  return refuse(command_id, 'conflict', 'another deployment has the id ' .. deployment_id, 'leave the id out')
end
local texts = {}
for index, row in ipairs(rows or {}) do texts[index] = schedule_of(row) end
local now = '"' .. now_iso .. '"'
redis.call('HSET', key_deployment(deployment_id), 'name', flow:sub(1, -2) .. '/' .. label:sub(2), 'flow', flow, 'label', label, 'flow_id',
  flow_id, 'paused', paused == 'true' and 'true' or 'false', 'revision', '1', 'revised_ms', whole(now_ms), 'created', now, 'updated', now,
  unpack(fields))
redis.call('HSET', key_deployments(), deployment, deployment_id)

local created = find_deployment(deployment)
write_schedules(created, texts)
publish_deployment(created, 'created', '{}')
announce_deployment(created)
return carried_out(command_id, deployment_json(created))
