-- update_schedule: Replace a schedule of a deployment, or switch it on and off.
--
-- KEYS      events             STREAM  the partition's events
-- ARGV      command_id         names the command and its answer; '' means nobody waits
-- ARGV      deadline           ms of Redis TIME after which nothing must be done; '' means never
-- ARGV      entry              id of the stream entry it came in; '' where order does not count
-- ARGV      again              '1': it was handed out before
-- ARGV      deployment         its name, flow/deployment
-- ARGV      schedule_id        id or slug of the schedule; it keeps the id
-- ARGV      schedule           what it is to be, a JSON row (see schedules.lua); '' leaves it as it is but for active
-- ARGV      slug               the name it is to have then; '' for none
-- ARGV      active             'true', 'false', or 'null' to leave it; counts only without schedule
-- INCLUDES  clock events replies definitions changes deployments schedules
-- RETURNS   the answer with the whole deployment, a JSON text (penstock.contracts.replies)
-- COST      O(fields + schedules)
-- RULE      rules.replaced_schedule, rules.revises
local answered = settled(command_id, deadline, entry, again, 'deployment/' .. deployment)
if answered then return answered end
local found = find_deployment(deployment)
if not found then return refuse_deployment(command_id, deployment) end
local number, text = find_schedule(found, schedule_id)
if not number then return refuse_schedule(command_id, found, schedule_id) end

local texts = { unpack(found.schedule_texts) }
if schedule ~= '' then
  local namesake = slug ~= '' and find_schedule(found, slug)
  if namesake and namesake ~= number then return refuse_slug(command_id, found, slug) end
  texts[number] = replaced_schedule(text, cjson.decode(schedule))
elseif active ~= 'null' then
  texts[number] = switched_schedule(text, active)
end
change_deployment(found, {}, texts)
return carried_out(command_id, deployment_json(found))
