-- Request::Fence: name, claim, to, for_us, keep_us.
local name, claim, to = ARGV[4], ARGV[5], ARGV[6]
local doc = prefix .. 'doc:' .. name
local found = session(name)
if not found or found.claim < claim then return { 'diverged' } end
if found.claim == claim and claim < to then
  local now = now_us()
  for holder in pairs(found.agreed) do redis.call('HDEL', doc, 'a:' .. holder) end
  found.claim, found.moving, found.agreed = to, string.format('%.0f', now + tonumber(ARGV[7])), {}
  redis.call('HSET', doc, 'claim', to, 'moving', found.moving)
  tell_others(found, nil, 'M ' .. #name .. ' ' .. to, name)
  -- Nobody may begin another one under the old claim while somebody may believe to have it.
  if next(found.holders) == nil then redis.call('ZADD', prefix .. 'left', now + tonumber(ARGV[8]), name) end
end
if found.claim ~= to or not found.moving or now_us() >= tonumber(found.moving) then
  return { 'fenced', found.claim }
end
for holder in pairs(found.holders) do
  if not found.agreed[holder] then return { 'waiting' } end
end
local base = redis.call('GET', prefix .. 'base:' .. name)
local tail = redis.call('LRANGE', prefix .. 'tail:' .. name, 0, -1)
local holders = {}
for holder in pairs(found.holders) do holders[#holders + 1] = holder end
return { 'loaded', found.seq, found.chain, base, tail, holders }
