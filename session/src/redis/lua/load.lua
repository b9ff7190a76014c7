-- Request::Open, Request::Load: name, claim, node, hold, keep_us, is_full, bytes of an empty session.
local name, claim, node, hold = ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local keep_us, is_full, size = tonumber(ARGV[8]), ARGV[9] == '1', ARGV[10]
local doc = prefix .. 'doc:' .. name
local found = session(name)
if found and found.claim > claim then return fenced(found) end
if found and found.claim < claim then
  remove(name, found)
  found = nil
end
if not found then
  if is_full then return { 'full' } end
  local zero = '0000000000000000'
  redis.call('HSET', doc, 'claim', claim, 'seq', 0, 'chain', zero, 'based_seq', 0, 'based_chain', zero, 'bytes', size)
  redis.call('INCRBY', prefix .. 'bytes', size)
  found = session(name)
end
-- First what needs no memory: a session that is there is opened at the server's limit, too.
redis.call('ZREM', prefix .. 'left', name)
if found.moving then
  -- Somebody has it under its new claim.
  redis.call('HDEL', doc, 'moving')
  for holder in pairs(found.agreed) do redis.call('HDEL', doc, 'a:' .. holder) end
end
-- One that comes late is of a hold that is over.
if tonumber(found.holders[node] or 0) < tonumber(hold) then redis.call('HSET', doc, 'h:' .. node, hold) end
redis.call('SADD', prefix .. 'holds:' .. node, name)
if not redis.call('ZSCORE', prefix .. 'nodes', node) then
  redis.call('ZADD', prefix .. 'strangers', 'NX', now_us() + keep_us, node)
end
tell_joined(found, name, node)
local others = {}
for holder in pairs(found.holders) do
  if holder ~= node then others[#others + 1] = holder end
end
local base = redis.call('GET', prefix .. 'base:' .. name)
local tail = redis.call('LRANGE', prefix .. 'tail:' .. name, 0, -1)
return { 'loaded', found.seq, found.chain, base, tail, others }
