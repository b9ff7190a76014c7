-- Request::Say: name, claim, node, hold, message.
local name, claim, node = ARGV[4], ARGV[5], ARGV[6]
local found = session(name)
if found and found.claim > claim then return fenced(found) end
if found and found.claim == claim and found.holders[node] == ARGV[7] then
  tell_others(found, node, 'S ' .. #name .. ' ' .. #node .. ' ' .. claim, name .. node .. ARGV[8])
end
return { 'done' }
