-- unpark_runs: Let runs that wait for the limit of their deployment try again, because it may have been raised.
--
-- KEYS      events         STREAM  the partition's events
-- ARGV      deployment_id  uuid of the deployment
-- ARGV      max_runs       how many at most in each queue in this call
-- INCLUDES  clock parking
-- RETURNS   number of runs that wait in their queues again; 0 means that there is no room or nobody waits
-- COST      O(log waiting) a run
-- RULE      rules.plan_claims
local _ = events
return unpark(deployment_id, tonumber(max_runs))
