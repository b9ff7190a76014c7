-- In front of every script. A partition's keys share a hash tag; documents are spelled `app/name`.
-- ARGV: the partition's prefix; how to publish; the time in microseconds, empty: the server's own (only tests say a time). KEYS: what
-- says where the script runs, and a key that never exists: with it, a slot that is on its way to another server refuses
-- the script (TRYAGAIN) rather than run it on half of the keys.
local prefix, publish = ARGV[1], ARGV[2]

local function now_us()
  if ARGV[3] ~= '' then return tonumber(ARGV[3]) end
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

-- A document's session as a table, with its holders' numbers; nil if there is none.
local function session(name)
  local flat = redis.call('HGETALL', prefix .. 'doc:' .. name)
  if #flat == 0 then return nil end
  local found = { holders = {}, agreed = {} }
  for at = 1, #flat, 2 do
    local field = flat[at]
    if string.sub(field, 1, 2) == 'h:' then
      found.holders[string.sub(field, 3)] = flat[at + 1]
    elseif string.sub(field, 1, 2) == 'a:' then
      found.agreed[string.sub(field, 3)] = true
    else
      found[field] = flat[at + 1]
    end
  end
  return found
end

-- What a holder under an older claim is told.
local function fenced(found)
  local is_moving = found.moving and now_us() < tonumber(found.moving)
  return { is_moving and 'moving' or 'fenced', found.claim }
end

-- A notice is a line of words, the last of which says under which number who is told holds the document, and a body.
local function tell_others(found, node, words, body)
  for holder, hold in pairs(found.holders) do
    if holder ~= node then
      redis.call(publish, prefix .. 'to:' .. holder, words .. ' ' .. hold .. '\n' .. body)
    end
  end
end

local function tell_joined(found, name, node)
  tell_others(found, node, 'J ' .. #name, name .. node)
end

local function remove(name, found)
  redis.call('DEL', prefix .. 'doc:' .. name, prefix .. 'tail:' .. name, prefix .. 'base:' .. name)
  redis.call('DECRBY', prefix .. 'bytes', found.bytes)
  redis.call('ZREM', prefix .. 'left', name)
  for holder in pairs(found.holders) do redis.call('SREM', prefix .. 'holds:' .. holder, name) end
end

-- The node holds it no more, by its own wish or because it died.
local function leave(name, node, keep_us)
  redis.call('SREM', prefix .. 'holds:' .. node, name)
  local found = session(name)
  if not found or not found.holders[node] then return end
  redis.call('HDEL', prefix .. 'doc:' .. name, 'h:' .. node)
  found.holders[node] = nil
  tell_others(found, node, 'L ' .. #name, name .. node)
  if next(found.holders) == nil then redis.call('ZADD', prefix .. 'left', now_us() + keep_us, name) end
end

-- How many entries of the tail a head stands for; nil if it is not part of the history, as far back as the base.
local function entries_upto(name, found, seq, chain)
  local count = tonumber(seq) - tonumber(found.based_seq)
  if count == 0 and chain == found.based_chain then return 0 end
  if count < 1 then return nil end
  if seq == found.seq then return chain == found.chain and count or nil end
  local entry = redis.call('LINDEX', prefix .. 'tail:' .. name, count - 1)
  if entry and string.sub(entry, 1, 16) == chain then return count end
  return nil
end
