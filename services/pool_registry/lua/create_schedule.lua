-- create_schedule: Add a schedule to a deployment.
--
-- KEYS      events             STREAM  the partition's events
-- ARGV      command_id         names the command and its answer; '' means nobody waits
-- ARGV      deadline           ms of Redis TIME after which nothing must be done; '' means never
-- ARGV      entry              id of the stream entry it came in; '' where order does not count
-- ARGV      again              '1': it was handed out before
-- ARGV      deployment         its name, flow/deployment
-- ARGV      schedule           a JSON row (see schedules.lua)
-- ARGV      slug               the name it is to have; '' for none
-- CONSTANTS MAX_SCHEDULES
-- INCLUDES  clock events replies definitions changes deployments schedules
-- RETURNS   the answer with the whole deployment, a JSON text (penstock.contracts.replies)
-- COST      O(fields + schedules)
-- RULE      rules.revises
local answered = settled(command_id, deadline, entry, again, 'deployment/' .. deployment)
if answered then return answered end
local found = find_deployment(deployment)
if not found then return refuse_deployment(command_id, deployment) end

if slug ~= '' and find_schedule(found, slug) then return refuse_slug(command_id, found, slug) end
if #found.schedule_texts >= MAX_SCHEDULES then return refuse_number(command_id, found) end
local texts = { unpack(found.schedule_texts) }
table.insert(texts, schedule_of(cjson.decode(schedule)))
change_deployment(found, {}, texts)
return carried_out(command_id, deployment_json(found))
