-- Request::Close: name, claim, node, hold, keep_us.
local name, node = ARGV[4], ARGV[6]
local found = session(name)
-- The claim may have been raised since the session was opened, here or there.
if found and (found.claim <= ARGV[5] or found.from == ARGV[5]) and tonumber(found.holders[node] or 0) <= tonumber(ARGV[7]) then
  leave(name, node, tonumber(ARGV[8]))
end
return { 'done' }
