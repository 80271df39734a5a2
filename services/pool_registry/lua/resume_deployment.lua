-- resume_deployment: Let the schedules of a deployment go on.
--
-- KEYS      events             STREAM  the partition's events
-- ARGV      command_id         names the command and its answer; '' means nobody waits
-- ARGV      deadline           ms of Redis TIME after which nothing must be done; '' means never
-- ARGV      entry              id of the stream entry it came in; '' where order does not count
-- ARGV      again              '1': it was handed out before
-- ARGV      deployment         its name, flow/deployment
-- INCLUDES  clock events replies definitions changes deployments
-- RETURNS   the answer with the whole deployment, a JSON text (penstock.contracts.replies)
-- COST      O(fields + schedules), for the answer
-- RULE      rules.revises
local answered = settled(command_id, deadline, entry, again, 'deployment/' .. deployment)
if answered then return answered end
local found = find_deployment(deployment)
if not found then return refuse_deployment(command_id, deployment) end

change_deployment(found, { 'paused', 'false' })
return carried_out(command_id, deployment_json(found))
