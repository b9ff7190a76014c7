-- node, grace.
local id = alive(ARGV[2])
if id then bury(id, now, tonumber(ARGV[3])) end
return { now }
