-- app, name, node, hold, grace. A later hold of the node stays.
local app, name, node, grace = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[6])
local id = alive(node)
if not id then return { now } end
local pin = find(app, name)
local index = pin and holds(pin, id)
if index and pin.latest[id] > tonumber(ARGV[5]) then return { now } end
call('HDEL', lost_key(id), grace_member(app, name))
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
