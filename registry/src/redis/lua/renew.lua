-- node, lease, number of apps, then app, connections, wanted, limit of each; then app and version of each record that it has.
local node, lease, count = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local id = alive(node)
if not id then return { now, 'unknown' } end
bury_expired()
call('ZADD', LEASES, text(now + lease), id)
call('HSET', key('node:' .. id), 'lease', text(lease))
shorten_leases(lease)

local lost = {}
for member, entry in pairs_of(call('HGETALL', lost_key(id))) do
  local till, epoch, nonce, region = string.match(entry, '^(%d+) (%x+) (%x+) (%S*)')
  if tonumber(till) > now then
    local app, name = string.match(member, '^(.-)%z(.*)$')
    lost[#lost + 1] = { app, name, region, url_of(region), epoch, nonce }
  else
    call('HDEL', lost_key(id), member)
  end
end

-- Shares: see docs/registry.md. A use is CONNECTIONS WANTED SHARE; the limit is the field `limit`.
local function fair(use, level) return math.max(use[1], math.min(use[2], level)) end

local function sum_fair(uses, level)
  local sum = 0
  for _, use in pairs(uses) do sum = sum + fair(use, level) end
  return sum
end

-- The highest level at which all fair shares fit the limit.
local function level_of(uses, limit)
  local high = 0
  for _, use in pairs(uses) do high = math.max(high, use[2]) end
  if sum_fair(uses, high) <= limit then return high end
  local low = 0
  while low + 1 < high do
    local middle = low + math.floor((high - low) / 2)
    if sum_fair(uses, middle) <= limit then low = middle else high = middle end
  end
  return low
end

local function see_through(app)
  local stored, uses, limit = key('uses:' .. app), {}, 0
  for field, value in pairs_of(call('HGETALL', stored)) do
    if field == 'limit' then
      limit = tonumber(value)
    else
      -- A dead node's use counts no more, even if it has not been freed yet.
      local lease = call('ZSCORE', LEASES, field)
      if lease and tonumber(lease) > now then
        local connections, wanted, share = string.match(value, '^(%d+) (%d+) (%d+)')
        uses[field] = { tonumber(connections), tonumber(wanted), tonumber(share) }
      end
    end
  end
  local level = level_of(uses, limit)
  local spare, told = math.max(0, limit - sum_fair(uses, level)), 0
  for other, use in pairs(uses) do
    if other ~= id then
      told = told + math.max(use[3], use[1])
      if use[3] > fair(use, level) + spare or use[3] < fair(use, level) then mark_turn(other, app) end
    end
  end
  local use = uses[id]
  if not use then
    call('SREM', key('using:' .. id), app)
    return 0
  end
  local fits = math.min(use[2], fair(use, level) + spare, math.max(0, limit - told))
  local share = math.max(fits, use[1])
  if share < fair(use, level) then mark_turn(id, app) end
  call('HSET', stored, id, text(use[1]) .. ' ' .. text(use[2]) .. ' ' .. text(share))
  call('SADD', key('using:' .. id), app)
  return share
end

local function share_of(app)
  local use = call('HGET', key('uses:' .. app), id)
  return use and tonumber(string.match(use, '^%d+ %d+ (%d+)'))
end

local turn = call('SMEMBERS', key('turn:' .. id))
call('DEL', key('turn:' .. id))
local shares, seen, at = {}, {}, 5
for _ = 1, count do
  local app, connections, wanted, limit = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), ARGV[at + 3]
  wanted = math.max(wanted, connections)
  local stored = key('uses:' .. app)
  if wanted == 0 then
    drop_use(app, id)
  else
    call('HSET', stored, 'limit', limit, id, text(connections) .. ' ' .. text(wanted) .. ' ' .. text(share_of(app) or 0))
  end
  if call('EXISTS', stored) == 1 then call('HSET', stored, 'limit', limit) end
  seen[app] = see_through(app)
  at = at + 4
end
for app, share in pairs(seen) do shares[#shares + 1] = { app, share } end
for _, app in ipairs(turn) do
  local before = not seen[app] and share_of(app)
  if before then
    local share = see_through(app)
    if share ~= before then shares[#shares + 1] = { app, share } end
  end
end

local records = {}
for index = at, #ARGV, 2 do
  local record = record_of(ARGV[index])
  if record[1] ~= ARGV[index + 1] then records[#records + 1] = { ARGV[index], record[1], record[2] } end
end
-- The last part tells whether there is something to sweep.
local over = call('ZRANGEBYSCORE', GRACES, '-inf', text(now), 'LIMIT', 0, 1)
local more = (call('EXISTS', DEAD) == 1 or #over > 0) and 1 or 0
return { now, 'renewed', call('INFO', 'replication'), call('INFO', 'server'), lost, shares, records, more }
