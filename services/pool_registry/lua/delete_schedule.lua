-- delete_schedule: Delete a schedule of a deployment.
--
-- KEYS      events             STREAM  the partition's events
-- ARGV      command_id         names the command and its answer; '' means nobody waits
-- ARGV      deadline           ms of Redis TIME after which nothing must be done; '' means never
-- ARGV      entry              id of the stream entry it came in; '' where order does not count
-- ARGV      again              '1': it was handed out before
-- ARGV      deployment         its name, flow/deployment
-- ARGV      schedule_id        id or slug of the schedule
-- INCLUDES  clock events replies definitions changes deployments schedules
-- RETURNS   the answer with the whole deployment, a JSON text (penstock.contracts.replies)
-- COST      O(fields + schedules)
-- RULE      rules.revises
local answered = settled(command_id, deadline, entry, again, 'deployment/' .. deployment)
if answered then return answered end
local found = find_deployment(deployment)
if not found then return refuse_deployment(command_id, deployment) end
local number = find_schedule(found, schedule_id)
if not number then return refuse_schedule(command_id, found, schedule_id) end

local texts = { unpack(found.schedule_texts) }
table.remove(texts, number)
change_deployment(found, {}, texts)
return carried_out(command_id, deployment_json(found))
