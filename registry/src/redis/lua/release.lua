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
leave(pin, now, grace)
if #pin.holders == 0 then begin_grace(pin, now) end
if pin.till > 0 and pin.till <= now then remove(app, pin) else store(app, pin) end
return { now }
