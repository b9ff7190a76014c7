-- A node that ends need not be waited for.
-- KEYS: 1 who writes; 2 nodes. ARGV: 1 its name.
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
return redis.call('HDEL', KEYS[2], ARGV[1])
