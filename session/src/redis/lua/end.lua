-- Request::End: name, claim.
local found = session(ARGV[4])
if found and found.claim == ARGV[5] then remove(ARGV[4], found) end
return { 'done' }
