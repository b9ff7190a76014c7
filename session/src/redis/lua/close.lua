-- Request::Close: name, claim, node, hold, keep_us.
local name, node = ARGV[4], ARGV[6]
local found = session(name)
-- Whatever the claim is by now: a node numbers its holds, and closes none that it took later.
if found and found.holders[node] and tonumber(found.holders[node]) <= tonumber(ARGV[7]) then
  leave(name, node, tonumber(ARGV[8]))
end
return { 'done' }
