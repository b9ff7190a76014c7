-- Whoever holds the lease writes the history in place of the one that it knows.
-- KEYS: 1 who writes; 2 the history. ARGV: 1 its name; 2 the mark that it knows; 3 the new mark; 4 the history.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
local mark = string.match(redis.call('GET', KEYS[2]) or '', '^[^\n]*') or ''
if mark ~= ARGV[2] then
  return 0
end
redis.call('SET', KEYS[2], ARGV[3] .. '\n' .. ARGV[4])
return 1
