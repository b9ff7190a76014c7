-- Request::Append: name, claim, node, known's seq and chain, nonce, updates, is_full, most bytes of a document.
local name, claim, node, seq, chain, nonce = ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[9]
local updates, is_full, bytes_max = ARGV[10], ARGV[11] == '1', tonumber(ARGV[12])
local doc, tail = prefix .. 'doc:' .. name, prefix .. 'tail:' .. name
local found = session(name)
if found and found.claim > claim then return fenced(found) end
if not found or found.claim < claim or not found.holders[node] then return { 'diverged' } end
local from = entries_upto(name, found, seq, chain)
if not from then return { 'diverged' } end
if seq ~= found.seq then
  -- What came after: this batch may be among it, sent before.
  local prev_seq, prev_chain = tonumber(seq), chain
  for _, entry in ipairs(redis.call('LRANGE', tail, from, -1)) do
    local entry_chain = string.sub(entry, 1, 16)
    if string.sub(entry, 17, 32) == nonce then
      local found_seq = string.format('%.0f', prev_seq)
      return { 'appended', found_seq, prev_chain, string.format('%.0f', prev_seq + 1), entry_chain }
    end
    prev_seq, prev_chain = prev_seq + 1, entry_chain
  end
end
local size = 32 + #updates
if is_full or tonumber(found.bytes) + size > bytes_max then return { 'full' } end
local head_seq = string.format('%.0f', tonumber(found.seq) + 1)
local head_chain = string.sub(redis.sha1hex(found.chain .. nonce), 1, 16)
redis.call('RPUSH', tail, head_chain .. nonce .. updates)
redis.call('HSET', doc, 'seq', head_seq, 'chain', head_chain)
redis.call('HINCRBY', doc, 'bytes', size)
redis.call('INCRBY', prefix .. 'bytes', size)
local heads = found.seq .. ' ' .. found.chain .. ' ' .. head_seq .. ' ' .. head_chain
tell_others(found, node, 'A ' .. #name .. ' ' .. claim .. ' ' .. heads, name .. updates)
return { 'appended', found.seq, found.chain, head_seq, head_chain }
