-- Request::Import: name, claim, base (empty: none), updates (empty: none), nonce, keep_us, is_full, bytes of an empty session, most
-- bytes of a document.
local name, claim, base, updates, nonce = ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local is_full, size, bytes_max = ARGV[10] == '1', tonumber(ARGV[11]) + #base, tonumber(ARGV[12])
local doc, zero = prefix .. 'doc:' .. name, '0000000000000000'
local found = session(name)
if found and found.claim > claim then return fenced(found) end
if found and found.claim == claim then return { 'done' } end
if #updates > 0 then size = size + 32 + #updates end
if is_full or size > bytes_max then return { 'full' } end
if found then remove(name, found) end
local seq, chain = 0, zero
if #base > 0 then redis.call('SET', prefix .. 'base:' .. name, base) end
if #updates > 0 then
  seq, chain = 1, string.sub(redis.sha1hex(zero .. nonce), 1, 16)
  redis.call('RPUSH', prefix .. 'tail:' .. name, chain .. nonce .. updates)
end
redis.call('HSET', doc, 'claim', claim, 'seq', seq, 'chain', chain, 'based_seq', 0, 'based_chain', zero, 'bytes', size)
redis.call('INCRBY', prefix .. 'bytes', size)
redis.call('ZADD', prefix .. 'left', now_us() + tonumber(ARGV[9]), name)
return { 'done' }
