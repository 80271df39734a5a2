-- forget_queue: A queue is gone: nobody serves it any more.
--
-- KEYS      events     STREAM  decides the slot
-- ARGV      queue_id   the queue
-- USES      queue_online
-- RETURNS   1 if somebody had served it, else 0
-- COST      O(workers that name it)
-- RULE      none
return redis.call('DEL', key_queue_online(queue_id))
