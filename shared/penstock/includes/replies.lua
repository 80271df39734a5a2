-- replies: Answer a command in the script that executes it, once, also when it is delivered again.
--
-- USES      answer reply
-- CONSTANTS ANSWER_EXPIRE_SECONDS REPLY_EXPIRE_SECONDS
-- RETURNS   earlier_answer(command_id), expired(deadline_ms), accept(command_id, result), refuse(command_id, code, message, hint),
--           send_answer(command_id, answer), by_word(ids, answers, words); and for commands that need no memory of their answer when
--           they come again: push_result(command_id, result), push_refusal(command_id, code, message, hint)
-- COST      O(1)
-- RULE      none

-- What an earlier delivery of this command answered, or false.
local function earlier_answer(command_id)
  if command_id == '' then return false end
  return redis.call('GET', key_answer(command_id))
end

local function result_text(command_id, result)
  return '{"id":' .. cjson.encode(command_id) .. ',"ok":true,"result":' .. result .. '}'
end

local function refusal_text(command_id, code, message, hint)
  return '{"id":' .. cjson.encode(command_id) .. ',"ok":false,"error":{"code":"' .. code .. '","message":' ..
    cjson.encode(message) .. ',"hint":' .. cjson.encode(hint or '') .. '}}'
end

-- Push the answer where the caller waits. Here and not in the service: of a Redis that has forgotten the change the caller would
-- hear of it all the same. Pushed again for a re-delivery: the caller takes the first and the rest expires.
-- Nobody waits for that of a command that is named after its entry; no caller can choose such a name.
local function push_answer(command_id, answer)
  if command_id ~= '' and command_id:sub(1, 6) ~= 'entry ' then
    redis.call('RPUSH', key_reply(command_id), answer)
    redis.call('EXPIRE', key_reply(command_id), REPLY_EXPIRE_SECONDS)
  end
  return answer
end

local function push_result(command_id, result)
  return push_answer(command_id, result_text(command_id, result))
end

local function push_refusal(command_id, code, message, hint)
  return push_answer(command_id, refusal_text(command_id, code, message, hint))
end

local function send_answer(command_id, answer)
  if command_id ~= '' then redis.call('SET', key_answer(command_id), answer, 'EX', ANSWER_EXPIRE_SECONDS) end
  return push_answer(command_id, answer)
end

-- result is a JSON text.
local function accept(command_id, result)
  return send_answer(command_id, result_text(command_id, result))
end

local function refuse(command_id, code, message, hint)
  return send_answer(command_id, refusal_text(command_id, code, message, hint))
end

-- Spells '"word":["id",...],...': which ids got which of these words for an answer. Ids need no escaping.
local function by_word(ids, answers, words)
  local parts = {}
  for _, word in ipairs(words) do
    local found = {}
    for index, id in ipairs(ids) do
      if answers[index] == word then found[#found + 1] = '"' .. id .. '"' end
    end
    parts[#parts + 1] = '"' .. word .. '":[' .. table.concat(found, ',') .. ']'
  end
  return table.concat(parts, ',')
end

-- True once Redis TIME is past the deadline; '' means no deadline.
local function expired(deadline_ms)
  return deadline_ms ~= '' and now_ms > tonumber(deadline_ms)
end
