-- update_deployment: Change fields of a deployment.
--
-- KEYS      events             STREAM  the partition's events
-- ARGV      command_id         names the command and its answer; '' means nobody waits
-- ARGV      deadline           ms of Redis TIME after which nothing must be done; '' means never
-- ARGV      entry              id of the stream entry it came in; '' where order does not count
-- ARGV      again              '1': it was handed out before
-- ARGV      deployment         its name, flow/deployment
-- ARGV      pool               name of the pool it is to go to; '' keeps the old
-- ARGV      ...changes         names of fields and their JSON texts, in turn, the pool included
-- INCLUDES  clock events replies definitions changes deployments
-- RETURNS   the answer with the whole deployment, a JSON text (penstock.contracts.replies)
-- COST      O(fields + schedules)
-- RULE      rules.revises, rules.has_one_thing_to_run
local answered = settled(command_id, deadline, entry, again, 'deployment/' .. deployment)
if answered then return answered end
local found = find_deployment(deployment)
if not found then return refuse_deployment(command_id, deployment) end
if pool ~= '' and pool ~= cjson.decode(found.pool) and not find_pool(pool) then return refuse_pool(command_id, pool) end

local changes = { unpack(ARGV, changes_from) }
local work = { entrypoint = found.entrypoint, command = found.command }
for index = 1, #changes, 2 do
  if work[changes[index]] then work[changes[index]] = changes[index + 1] end
end
if (work.entrypoint == 'null') == (work.command == 'null') then
  return refuse(command_id, 'invalid', 'deployment ' .. found.name .. ' would have neither entrypoint nor command',
    'give the one that is to be executed')
end
change_deployment(found, changes)
return carried_out(command_id, deployment_json(found))
