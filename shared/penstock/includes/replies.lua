-- replies: Answer a command in the script that executes it, once, also when it is delivered again.
--
-- USES      answer reply
-- CONSTANTS ANSWER_EXPIRE_SECONDS REPLY_EXPIRE_SECONDS
-- RETURNS   earlier_answer(command_id), expired(deadline_ms), accept(command_id, result), refuse(command_id, code, message, hint)
-- COST      O(1)
-- RULE      none

-- What an earlier delivery of this command answered, or false.
local function earlier_answer(command_id)
  if command_id == '' then return false end
  return redis.call('GET', key_answer(command_id))
end

-- Push the answer where the caller waits. Sent again for a re-delivery: the caller takes the first and the rest expires.
local function send_answer(command_id, answer)
  if command_id ~= '' then
    redis.call('SET', key_answer(command_id), answer, 'EX', ANSWER_EXPIRE_SECONDS)
    redis.call('RPUSH', key_reply(command_id), answer)
    redis.call('EXPIRE', key_reply(command_id), REPLY_EXPIRE_SECONDS)
  end
  return answer
end

-- result is a JSON text.
local function accept(command_id, result)
  return send_answer(command_id, '{"id":' .. cjson.encode(command_id) .. ',"ok":true,"result":' .. result .. '}')
end

local function refuse(command_id, code, message, hint)
  return send_answer(command_id, '{"id":' .. cjson.encode(command_id) .. ',"ok":false,"error":{"code":"' .. code .. '","message":' ..
    cjson.encode(message) .. ',"hint":' .. cjson.encode(hint or '') .. '}}')
end

-- True once Redis TIME is past the deadline; '' means no deadline.
local function expired(deadline_ms)
  return deadline_ms ~= '' and now_ms > tonumber(deadline_ms)
end
