-- submissions: The answer to a submission (penstock.contracts.runs.SubmitRuns), put together run by run.
--
-- RETURNS   refuse_run(run_id, word, code, reason), note_word(run_id, word), refused_rows(), submission_result(malformed)
-- COST      O(1) a run
-- RULE      none
local accepted_ids, refusals, same_ids = {}, {}, {}

-- Answers the word.
local function refuse_run(run_id, word, code, reason)
  refusals[#refusals + 1] = '{"run":"' .. run_id .. '","code":"' .. code .. '","message":' .. cjson.encode(reason) .. '}'
  return word
end

-- What became of a run that was not refused: 'accepted', 'known' or 'same <id>'.
local function note_word(run_id, word)
  if word == 'accepted' or word == 'known' or word == 'same ' .. run_id then
    accepted_ids[#accepted_ids + 1] = '"' .. run_id .. '"'
  elseif word:sub(1, 5) == 'same ' then
    same_ids[#same_ids + 1] = '"' .. run_id .. '":"' .. word:sub(6) .. '"'
  end
end

local function refused_rows()
  return table.concat(refusals, ',')
end

-- malformed: more rows of the same kind, '' for none.
local function submission_result(malformed)
  local rows = refused_rows()
  if rows ~= '' and malformed ~= '' then rows = rows .. ',' end
  return '{"accepted":[' .. table.concat(accepted_ids, ',') .. '],"refused":[' .. rows .. malformed .. '],"same":{' ..
    table.concat(same_ids, ',') .. '}}'
end
