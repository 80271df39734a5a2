-- forget_consumer: Delete a consumer that left, unless entries are still pending for it.
--
-- KEYS      events       STREAM  decides the slot
-- ARGV      stream       full key of the stream
-- ARGV      group        consumer group
-- ARGV      consumer     the consumer's name
-- RETURNS   1 deleted, 0 kept: it has pending entries, or it is gone already
-- COST      O(consumers of the group)
-- RULE      none
local _ = events
for _, fields in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
  local about = {}
  for index = 1, #fields, 2 do about[fields[index]] = fields[index + 1] end
  if about.name == consumer and about.pending == 0 then
    redis.call('XGROUP', 'DELCONSUMER', stream, group, consumer)
    return 1
  end
end
return 0
