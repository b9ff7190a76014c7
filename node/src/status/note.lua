-- Writes a notice in place of the one that somebody knows; an empty one removes it.
-- KEYS: 1 notices. ARGV: 1 its id; 2 as it is known; 3 as it is to be; 4 the new mark of all notices.
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then
  return 0
end
if ARGV[3] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
end
redis.call('HSET', KEYS[1], '', ARGV[4])
return 1
