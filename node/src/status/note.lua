-- Writes a notice in place of the one that somebody knows; an empty one removes it.
-- KEYS: 1 notices; 2 their mark. ARGV: 1 the notice's id; 2 as it is known; 3 as it is to be; 4 the new mark of all notices.
local known, all = '', redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if all[i] == ARGV[1] then
    known = all[i + 1]
  end
end
if known ~= ARGV[2] then
  return 0
end
if ARGV[3] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
end
redis.call('SET', KEYS[2], ARGV[4])
return 1
