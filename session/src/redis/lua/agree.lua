-- Request::Agree: name, claim, node, known's seq and chain.
local name, node = ARGV[4], ARGV[6]
local found = session(name)
if found and found.claim > ARGV[5] then return fenced(found) end
local is_known = found and found.claim == ARGV[5] and found.moving and found.holders[node]
if not is_known or not entries_upto(name, found, ARGV[7], ARGV[8]) then return { 'diverged' } end
redis.call('HSET', prefix .. 'doc:' .. name, 'a:' .. node, '1')
return { 'done' }
