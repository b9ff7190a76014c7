local name, life, able, wants, addresses, words = ARGV[2], ARGV[3], ARGV[4] == '1', ARGV[5] == '1', ARGV[6], ARGV[7]
local lease, keep, recall = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])

local all, last = read()
redis.call('HSET', members, 'b', whole(now))
-- If nobody told anything for long, or the clock was set, those who are silent need not be dead: each has a lease from now on.
if not last or now < last or now > last + math.floor(lease / 2) then
  for other, member in pairs(all) do
    if member.till then
      member.till = now + lease
      redis.call('HSET', members, 's ' .. other, state(member))
    end
  end
end
for other, member in pairs(all) do
  if not (member.till and member.addresses and member.words) or member.till <= now then
    leave_behind(member.addresses or '')
    remove(other)
    all[other] = nil
  end
end
local past = redis.call('HGETALL', gone)
for at = 1, #past, 2 do
  if now >= tonumber(past[at + 1]) + recall then
    forget(past[at])
  end
end

local before = all[name]
local doubled = before and before.life ~= life
if before then
  leave_behind(before.addresses)
end
local living, serving = 1, 0
for other, member in pairs(all) do
  if other ~= name then
    living = living + 1
    if member.is_in then
      serving = serving + 1
    end
  end
end
local may_leave = wants and serving >= math.max(1, math.ceil(living * keep / 1000))
local is_in = able and not may_leave
local me = { till = now + lease, life = life, is_in = is_in, addresses = addresses, words = words }
redis.call('HSET', members, 's ' .. name, state(me), 'a ' .. name, addresses, 'm ' .. name, words)
all[name] = me
claim(all)

local seen = {}
for _, member in pairs(all) do
  seen[#seen + 1] = { member.is_in and 1 or 0, member.words }
end
return { whole(now), may_leave and 1 or 0, doubled and 1 or 0, seen, redis.call('HGETALL', gone) }
