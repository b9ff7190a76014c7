-- Request::Say: name, claim, node, hold, message.
local name, claim, node = ARGV[4], ARGV[5], ARGV[6]
local found = session(name)
if found and found.claim > claim then return { 'fenced', found.claim } end
if found and found.claim == claim and found.holders[node] == ARGV[7] then
  local header = 'S ' .. #name .. ' ' .. #node .. ' ' .. claim .. '\n'
  tell_others(found, node, header .. name .. node .. ARGV[8])
end
return { 'done' }
