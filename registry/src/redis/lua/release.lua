-- app, name, node, hold, grace.
local app, name, node, number, grace = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local id = alive(node)
if not id then return { now } end
local pin = find(app, name)
-- A later hold of the same node stays.
if pin and pin.holds[id] and pin.holds[id] > number then return { now } end
call('HDEL', lost_key(id), grace_member(app, name))
local index = pin and index_of(pin, id)
if not index then return { now } end
table.remove(pin.holders, index)
if #pin.holders == 0 then
  if pin.region == '' then grace = 0 end
  pin.till = now + grace
  if grace == 0 then
    remove(app, pin)
    return { now }
  end
end
store(app, pin)
return { now }
