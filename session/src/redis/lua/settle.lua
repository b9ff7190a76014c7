-- Request::Settle: name, claim.
local name, claim = ARGV[4], ARGV[5]
local found = session(name)
if found and found.claim == claim and found.moving then
  redis.call('HSET', prefix .. 'doc:' .. name, 'moving', 0)
  tell_others(found, nil, 'T ' .. #name .. ' ' .. claim, name)
end
return { 'done' }
