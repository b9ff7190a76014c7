-- Request::Beat in one partition: node, lease_us, keep_us, most documents that are cleared away, with_holds.
local node, keep_us, room = ARGV[4], tonumber(ARGV[6]), tonumber(ARGV[7])
local nodes, strangers, left, now = prefix .. 'nodes', prefix .. 'strangers', prefix .. 'left', now_us()
local until_us = redis.call('ZSCORE', nodes, node)
-- First what needs no memory: at its limit a server refuses a script that begins with what does, and would never be swept.
redis.call('ZREM', strangers, node)
redis.call('ZADD', nodes, now + tonumber(ARGV[5]), node)
-- Who is believed to live for far longer than a lease was heard of before the clock was set back, or by a server whose clock was
-- ahead. (Leases of nodes may differ a little.)
local most = now + 2 * tonumber(ARGV[5])
for _, other in ipairs(redis.call('ZRANGEBYSCORE', nodes, '(' .. string.format('%.0f', most), '+inf')) do
  redis.call('ZADD', nodes, most, other)
end
local is_forgotten = not until_us or tonumber(until_us) <= now
local over = redis.call('ZRANGEBYSCORE', left, '-inf', now, 'LIMIT', 0, room)
for _, name in ipairs(over) do
  local found = session(name)
  if found then remove(name, found) else redis.call('ZREM', left, name) end
end
-- Documents of the dead are left. A node of which nothing is left is forgotten.
for _, of in ipairs({ nodes, strangers }) do
  for _, dead in ipairs(redis.call('ZRANGEBYSCORE', of, '-inf', now, 'LIMIT', 0, room)) do
    local holds = prefix .. 'holds:' .. dead
    local held = room > 0 and redis.call('SRANDMEMBER', holds, room) or {}
    room = room - #held
    for _, name in ipairs(held) do leave(name, dead, keep_us) end
    if redis.call('SCARD', holds) == 0 then redis.call('ZREM', of, dead) end
  end
end
local living = redis.call('ZRANGEBYSCORE', nodes, '(' .. string.format('%.0f', now), '+inf')
local bytes = redis.call('GET', prefix .. 'bytes') or '0'
local held = {}
if ARGV[8] == '1' then held = redis.call('SMEMBERS', prefix .. 'holds:' .. node) end
return { 'nodes', is_forgotten and 1 or 0, bytes, living, held }
