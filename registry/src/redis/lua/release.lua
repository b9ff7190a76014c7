-- app, name, node, epoch, nonce, grace.
local app, name, node, grace = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[7])
local id = alive(node)
if not id then return { now } end
call('HDEL', lost_key(id), grace_member(app, name))
local pin = find(app, name)
if not pin or pin.epoch ~= ARGV[5] or pin.nonce ~= ARGV[6] then return { now } end
local index = holds(pin, id)
if not index then return { now } end
table.remove(pin.holders, index)
if #pin.holders == 0 then
  pin.till = now + grace
  if grace == 0 then
    remove(app, pin)
    return { now }
  end
end
store(app, pin)
return { now }
