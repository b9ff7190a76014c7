-- Request::Rebase: name, claim, upto's seq and chain, within's seq and chain, base, most bytes of a document.
local name, claim, base, bytes_max = ARGV[4], ARGV[5], ARGV[10], tonumber(ARGV[11])
local tail = prefix .. 'tail:' .. name
local found = session(name)
if not found or found.claim < claim then return { 'done' } end
if found.claim > claim then return fenced(found) end
local count = entries_upto(name, found, ARGV[6], ARGV[7])
if not count or count == 0 or not entries_upto(name, found, ARGV[8], ARGV[9]) then return { 'done' } end
local grown = #base - redis.call('STRLEN', prefix .. 'base:' .. name)
for _, entry in ipairs(redis.call('LRANGE', tail, 0, count - 1)) do grown = grown - #entry end
if grown > 0 and tonumber(found.bytes) + grown > bytes_max then return { 'full' } end
redis.call('LTRIM', tail, count, -1)
redis.call('SET', prefix .. 'base:' .. name, base)
redis.call('HSET', prefix .. 'doc:' .. name, 'based_seq', ARGV[6], 'based_chain', ARGV[7])
redis.call('HINCRBY', prefix .. 'doc:' .. name, 'bytes', grown)
redis.call('INCRBY', prefix .. 'bytes', grown)
return { 'done' }
