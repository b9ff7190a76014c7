-- In front of every script. KEYS[1] is the partition's prefix; all keys begin with it, so they share its slot in a Cluster. There
-- KEYS[2] is one that never exists: see partition.rs.
-- ARGV[1]: the time in microseconds; empty: the server's own (only tests say a time). Numbers stay exact below 2^53.
local prefix = KEYS[1]
local call = redis.call
local now = tonumber(ARGV[1])
if not now then
  local time = call('TIME')
  now = time[1] * 1000000 + time[2]
end

local function key(name) return prefix .. ':' .. name end

-- Things that one call looks at at most: a piece of a longer work.
local SWEEP = 500

local NODES, LEASES = key('nodes'), key('leases')
local DEAD, URLS, APPS, GRACES = key('dead'), key('urls'), key('apps'), key('graces')
local TOPS, ENDED = key('tops'), key('ended')

-- Names and values of a hash.
local function pairs_of(flat)
  local index = -1
  return function()
    index = index + 2
    return flat[index], flat[index + 1]
  end
end

local function text(number) return string.format('%.0f', number) end

local function number_of(hex) return tonumber(hex, 16) end

-- The number of a node that lives, or nil.
local function alive(node)
  local id = call('HGET', NODES, node)
  local lease = id and call('ZSCORE', LEASES, id)
  if lease and tonumber(lease) > now then return id end
  return nil
end

-- When a holder left: nil if it lives; else the time, and its own grace if it retired.
local function left_at(id, known)
  local entry = known[id]
  if entry then return entry[1], entry[2] end
  local at, grace
  local lease = call('ZSCORE', LEASES, id)
  if lease then
    lease = tonumber(lease)
    if lease <= now then at = lease end
  else
    local dead = call('HGET', DEAD, id)
    local lease_end, own = string.match(dead or '0', '^(%d+) ?(%d*)')
    at, grace = tonumber(lease_end), tonumber(own)
  end
  known[id] = { at, grace }
  return at, grace
end

-- A pin is a member of pins:APP, all of score 0, so that pins are in the order of their names:
-- NAME \0 EPOCH NONCE REGION GRACE UNTIL HOLDERS LEFT: epoch and nonce as 16 hexadecimal digits, grace and until in microseconds
-- (until is 0 while somebody holds it; the region is empty once it was taken away), holders as NODE:HOLD with commas between: a
-- node's number, and the latest of its holds. LEFT: when the last grace ends of those who have left.
local function parse(member)
  local name, epoch, nonce, region, grace, till, holders, left, more =
    string.match(member, '^(.-)%z(%x+) (%x+) (%S*) (%d+) (%d+) (%S*) ?(%d*)(.*)$')
  local pin = { member = member, name = name, epoch = epoch, nonce = nonce, region = region, grace = tonumber(grace) }
  -- What later versions add stands behind, and stays.
  pin.till, pin.holders, pin.holds, pin.left, pin.more = tonumber(till), {}, {}, tonumber(left) or 0, more
  for id, hold in string.gmatch(holders, '(%d+):(%d+)') do
    pin.holders[#pin.holders + 1] = id
    pin.holds[id] = tonumber(hold)
  end
  return pin
end

local function format(pin)
  local holders = {}
  for index, id in ipairs(pin.holders) do holders[index] = id .. ':' .. text(pin.holds[id]) end
  return pin.name .. '\0' .. pin.epoch .. ' ' .. pin.nonce .. ' ' .. pin.region .. ' ' .. text(pin.grace) .. ' '
    .. text(pin.till) .. ' ' .. table.concat(holders, ',') .. ' ' .. text(pin.left) .. (pin.more or '')
end

local function grace_member(app, name) return app .. '\0' .. name end

-- Raises an app's epoch in one of the hashes that keep the highest.
local function raise(hash, app, epoch)
  if epoch > tonumber(call('HGET', hash, app) or '0') then call('HSET', hash, app, text(epoch)) end
end

local function remove(app, pin)
  local pins = key('pins:' .. app)
  raise(ENDED, app, number_of(pin.epoch))
  if pin.member then call('ZREM', pins, pin.member) end
  if pin.in_grace then call('ZREM', GRACES, grace_member(app, pin.name)) end
  if call('EXISTS', pins) == 0 then call('ZREM', APPS, app) end
end

local function store(app, pin)
  local member, pins = format(pin), key('pins:' .. app)
  if member ~= pin.member then
    if pin.member then call('ZREM', pins, pin.member) else call('ZADD', APPS, 0, app) end
    call('ZADD', pins, 0, member)
    pin.member = member
  end
  if pin.till > 0 then
    call('ZADD', GRACES, text(pin.till), grace_member(app, pin.name))
  elseif pin.in_grace then
    call('ZREM', GRACES, grace_member(app, pin.name))
  end
  pin.in_grace = pin.till > 0
end

-- A holder has left, with a grace. Who does so last may be late, and ends no grace of others.
local function leave(pin, at, grace) pin.left = math.max(pin.left, at + grace) end

local function begin_grace(pin, last) pin.till = math.max(1, pin.region == '' and last or pin.left) end

-- Takes holders away that are dead. Returns false if the pin is over.
local function settle(pin, known)
  pin.in_grace = pin.till > 0
  if pin.till == 0 then
    local living, last = {}, 0
    for _, id in ipairs(pin.holders) do
      local at, own = left_at(id, known)
      if at then
        leave(pin, at, own or pin.grace)
        last = math.max(last, at)
      else
        living[#living + 1] = id
      end
    end
    if #living < #pin.holders then pin.changed = true end
    pin.holders = living
    if #living == 0 then begin_grace(pin, last) end
  end
  return pin.till == 0 or pin.till > now
end

-- The pin of a document, settled; nil if there is none. What is over is removed.
local function find(app, name)
  local from = name .. '\0'
  local member = call('ZRANGEBYLEX', key('pins:' .. app), '[' .. from, '[' .. from .. '\255', 'LIMIT', 0, 1)[1]
  if not member then return nil end
  local pin = parse(member)
  if settle(pin, {}) then return pin end
  remove(app, pin)
  return nil
end

local function index_of(pin, id)
  for index, holder in ipairs(pin.holders) do
    if holder == id then return index end
  end
  return nil
end

local function lost_key(id) return key('lost:' .. id) end

local function new_pin(name, epoch, nonce, region)
  return { name = name, epoch = epoch, nonce = nonce, region = region, till = 0, holders = {}, holds = {}, left = 0 }
end

-- Makes a node the holder (or one of them) by its hold of this number, and writes the pin.
local function hold(app, pin, id, number, grace)
  if not index_of(pin, id) then
    pin.holders[#pin.holders + 1] = id
    pin.holds[id] = 0
  end
  pin.holds[id] = math.max(pin.holds[id], number)
  pin.grace, pin.till = grace, 0
  store(app, pin)
  call('HDEL', lost_key(id), grace_member(app, pin.name))
end

-- An epoch above all that were ever given for the app's documents, and at least the clock.
local function next_epoch(app)
  local top = tonumber(call('HGET', TOPS, app) or '0')
  local epoch = math.max(now, top + 1)
  call('HSET', TOPS, app, text(epoch))
  return string.format('%016x', epoch)
end

-- Whether claim (e1, n1) is above (e2, n2); nonces are compared by halves, for they do not fit a number.
local function is_above(e1, n1, e2, n2)
  if number_of(e1) ~= number_of(e2) then return number_of(e1) > number_of(e2) end
  local high1, high2 = number_of(string.sub(n1, 1, 8)), number_of(string.sub(n2, 1, 8))
  if high1 ~= high2 then return high1 > high2 end
  return number_of(string.sub(n1, 9)) > number_of(string.sub(n2, 9))
end

local function url_of(region) return call('HGET', URLS, region) or '' end

-- Has a node told, with its renewals for two leases, that a higher claim has a pin that it held.
local function tell_lost(id, app, pin)
  local lease = tonumber(call('HGET', key('node:' .. id), 'lease') or '0')
  local entry = text(now + 2 * lease) .. ' ' .. pin.epoch .. ' ' .. pin.nonce .. ' ' .. pin.region
  call('HSET', lost_key(id), grace_member(app, pin.name), entry)
end

-- Gives a pin to a higher claim of a node's region, or to nobody's. Holders stay if `keep`; they are told, but the node.
local function win(app, pin, id, region, epoch, nonce, keep)
  local before = pin.holders
  pin.epoch, pin.nonce, pin.region = epoch, nonce, region
  if not keep then pin.holders, pin.holds = {}, {} end
  for _, holder in ipairs(before) do
    if holder ~= id then tell_lost(holder, app, pin) end
  end
end

-- Removes pins whose grace is over, at most so many. Returns how many it looked at.
local function end_graces(most)
  local over = call('ZRANGEBYSCORE', GRACES, '-inf', text(now), 'LIMIT', 0, most)
  for _, member in ipairs(over) do
    local app, name = string.match(member, '^(.-)%z(.*)$')
    call('ZREM', GRACES, member)
    local pin = find(app, name)
    if pin and pin.till > 0 then call('ZADD', GRACES, text(pin.till), member) end
  end
  return #over
end

-- Marks that a node's share of an app has to be seen through at its next renewal.
local function mark_turn(id, app)
  if call('ZSCORE', LEASES, id) then call('SADD', key('turn:' .. id), app) end
end

local function drop_use(app, id)
  local uses = key('uses:' .. app)
  call('HDEL', uses, id)
  if call('HLEN', uses) <= 1 then call('DEL', uses) end
end

-- Frees what a dead node was allotted, of so many apps at most: others may grow. Returns of how many.
local function free_apps(id, most)
  local apps = call('SPOP', key('using:' .. id), most)
  for _, app in ipairs(apps) do
    drop_use(app, id)
    for _, other in ipairs(call('HKEYS', key('uses:' .. app))) do mark_turn(other, app) end
  end
  return #apps
end

-- Forgets a life but for when it ended, which pins still ask for.
local function bury(id, at, grace)
  local node = call('HGET', key('node:' .. id), 'node')
  if node and call('HGET', NODES, node) == id then call('HDEL', NODES, node) end
  call('ZREM', LEASES, id)
  call('HSET', DEAD, id, text(at) .. (grace and (' ' .. text(grace)) or ''))
  call('DEL', key('node:' .. id), key('turn:' .. id), lost_key(id))
  free_apps(id, 100)
end

local function bury_expired()
  local expired = call('ZRANGEBYSCORE', LEASES, '-inf', text(now), 'WITHSCORES', 'LIMIT', 0, 16)
  for index = 1, #expired, 2 do bury(expired[index], tonumber(expired[index + 1]), nil) end
end

-- Leases that end later than they are long, seen by a node with a lease of this length: the clock was set back since they were
-- renewed, or another server with its own has taken over. Who died meanwhile would be waited for by as much.
local function shorten_leases(length)
  for _, id in ipairs(call('ZRANGEBYSCORE', LEASES, '(' .. text(now + length), '+inf')) do
    local own = tonumber(call('HGET', key('node:' .. id), 'lease') or '0')
    if own < tonumber(call('ZSCORE', LEASES, id)) - now then call('ZADD', LEASES, text(now + own), id) end
  end
end

-- Walks over all pins in pieces, from app to app, to take holders away that are dead. At the end of a walk the numbers that were
-- dead when it began are in no pin any more, and are forgotten. Returns true while there is more to do.
local function sweep(most)
  bury_expired()
  local ended = end_graces(most)
  local walk = key('walk')
  local state = call('HMGET', walk, 'app', 'after', 'dead')
  if not state[1] then
    local dead = call('HKEYS', DEAD)
    if #dead == 0 then return ended == most end
    for _, id in ipairs(dead) do
      if free_apps(id, most) == most then return true end
    end
    state = { '', '', table.concat(dead, ' ') }
  end
  local app, after, known, budget = state[1], state[2], {}, most
  while budget > 0 do
    local members = {}
    if app ~= '' then
      local from = after == '' and '-' or ('(' .. after)
      members = call('ZRANGEBYLEX', key('pins:' .. app), from, '+', 'LIMIT', 0, budget)
    end
    for _, member in ipairs(members) do
      local pin = parse(member)
      if not settle(pin, known) then
        remove(app, pin)
      elseif pin.changed then
        store(app, pin)
      end
      -- Behind all members of this name, also as it is written now.
      after = pin.name .. '\0\255'
    end
    budget = budget - math.max(1, #members)
    if #members == 0 then
      app = call('ZRANGEBYLEX', APPS, app == '' and '-' or ('(' .. app), '+', 'LIMIT', 0, 1)[1]
      after = ''
      if not app then
        for id in string.gmatch(state[3], '%d+') do call('HDEL', DEAD, id) end
        call('DEL', walk)
        return call('EXISTS', DEAD) == 1 or ended == most
      end
    end
  end
  call('HSET', walk, 'app', app, 'after', after, 'dead', state[3])
  return true
end

-- Version and record of an app: '0' and false if there never was one.
local function record_of(app)
  return { call('HGET', key('versions'), app) or '0', call('HGET', key('records'), app) }
end

-- A pin as it is told: name, region, url, epoch, nonce, until (0: held), then the nodes that hold it.
local function view_of(pin)
  local view = { pin.name, pin.region, url_of(pin.region), pin.epoch, pin.nonce, pin.till }
  for _, id in ipairs(pin.holders) do
    view[#view + 1] = call('HGET', key('node:' .. id), 'node') or ''
  end
  return view
end
