-- delete_deployment: Delete a deployment and its schedules.
--
-- KEYS      events             STREAM  the partition's events
-- ARGV      command_id         names the command and its answer; '' means nobody waits
-- ARGV      deadline           ms of Redis TIME after which nothing must be done; '' means never
-- ARGV      entry              id of the stream entry it came in; '' where order does not count
-- ARGV      again              '1': it was handed out before
-- ARGV      deployment         its name, flow/deployment
-- ARGV      moved_to           the pool it lives in from now on, in another partition, a JSON text; 'null' for none
-- USES      deployment deployments schedules
-- INCLUDES  clock events replies definitions changes deployments
-- RETURNS   the answer with the whole deployment as it was, a JSON text (penstock.contracts.replies)
-- COST      O(fields + schedules)
-- RULE      none
local answered = settled(command_id, deadline, entry, again, 'deployment/' .. deployment)
if answered then return answered end
local found = find_deployment(deployment)
if not found then return refuse_deployment(command_id, deployment) end

publish_deployment(found, 'deleted', '{}')
forget('prefect.deployment.' .. found.id)
redis.call('HDEL', key_deployments(), deployment)
redis.call('DEL', key_deployment(found.id), key_schedules(found.id))
announce('deployment.deleted', ',"deployment_id":"' .. found.id .. '","deployment":' .. found.name .. ',"pool":' .. found.pool ..
  ',"moved_to":' .. moved_to)
return carried_out(command_id, deployment_json(found))
