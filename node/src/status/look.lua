-- A node says how it is, and hears what the region's nodes share. Nothing is called that sessions do not call too: the same user may.
-- KEYS: 1 who writes; 2 the history: its mark, a line end, the rest; 3 notices by id; 4 the mark of all of them;
-- 5 nodes by name, each as `UNTIL WORD`, in milliseconds.
-- ARGV: 1 its name; 2 how it is in a word; 3 whether it may write; 4 for how long what it says holds, in milliseconds;
-- 5 the mark of the history that it knows; 6 that of the notices.
local name, word, may_write, hold = ARGV[1], ARGV[2], ARGV[3] == '1', tonumber(ARGV[4])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local writer = redis.call('GET', KEYS[1])
if may_write and (not writer or writer == name) then
  redis.call('SET', KEYS[1], name, 'PX', hold)
  writer = name
elseif writer == name then
  redis.call('DEL', KEYS[1])
  writer = nil
end

redis.call('HSET', KEYS[5], name, string.format('%.0f %s', now + hold, word))
local words = {}
local nodes = redis.call('HGETALL', KEYS[5])
for i = 1, #nodes, 2 do
  local ends, said = string.match(nodes[i + 1], '^(%d+) (%S+)$')
  if ends and tonumber(ends) > now then
    words[#words + 1] = said
  else
    redis.call('HDEL', KEYS[5], nodes[i])
  end
end

local mark, text = string.match(redis.call('GET', KEYS[2]) or '', '^([^\n]*)\n(.*)$')
mark, text = mark or '', text or ''
if mark == ARGV[5] then
  text = ''
end
local notices_mark, notices = redis.call('GET', KEYS[4]) or '', {}
if notices_mark ~= ARGV[6] then
  notices = redis.call('HGETALL', KEYS[3])
end
return {writer == name and 1 or 0, mark, text, notices_mark, notices, words}
