-- Of a region, in one slot:
--   KEYS[1] hash of members: "s NAME" its state ("UNTIL LIFE in|out"), "a NAME" its addresses, "m NAME" what it said (JSON); and
--           "b", when anybody told something last
--   KEYS[2] hash of addresses that nobody has any more, and since when
-- ARGV[1] is the time to go by, for tests; else it is the server's.
local members, gone = KEYS[1], KEYS[2]
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end

local function whole(number)
  return string.format('%.0f', number)
end

-- All members: state, addresses, words, by name; and when anybody told something last.
local function read()
  local all, last, fields = {}, nil, redis.call('HGETALL', members)
  for at = 1, #fields, 2 do
    local kind, name, value = fields[at]:sub(1, 1), fields[at]:sub(3), fields[at + 1]
    local member = all[name] or {}
    if kind == 'b' then
      last = tonumber(value)
    else
      all[name] = member
    end
    if kind == 's' then
      local till, life, standing = value:match('^(%d+) (%x+) (%a+)$')
      member.till, member.life, member.is_in = tonumber(till), life, standing == 'in'
    elseif kind == 'a' then
      member.addresses = value
    elseif kind == 'm' then
      member.words = value
    end
  end
  return all, last
end

local function state(member)
  return whole(member.till) .. ' ' .. member.life .. ' ' .. (member.is_in and 'in' or 'out')
end

-- Everybody is told of them with each beat: there are so many at most.
local gone_max = 1024
-- How many there are, once that was counted.
local gone_count

local function leave_behind(addresses)
  for address in addresses:gmatch('%S+') do
    gone_count = gone_count or #redis.call('HGETALL', gone) / 2
    if gone_count < gone_max then
      gone_count = gone_count + redis.call('HSETNX', gone, address, whole(now))
    end
  end
end

local function forget(address)
  local removed = redis.call('HDEL', gone, address)
  gone_count = gone_count and gone_count - removed
end

local function remove(name)
  redis.call('HDEL', members, 's ' .. name, 'a ' .. name, 'm ' .. name)
end

-- Who lives has its addresses, whoever had them before.
local function claim(all)
  for _, member in pairs(all) do
    for address in member.addresses:gmatch('%S+') do
      forget(address)
    end
  end
end
