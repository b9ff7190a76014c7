-- app, name, epoch, nonce of the claim it moves under; node, region, new nonce, hold, grace.
local app, name, node, region, nonce = ARGV[2], ARGV[3], ARGV[6], ARGV[7], ARGV[8]
local id = alive(node)
if not id then return { now, 'unknown' } end
local pin = find(app, name)
if not pin then return { now, 'stale' } end
if pin.epoch == ARGV[4] and pin.nonce == ARGV[5] then
  win(app, pin, id, region, next_epoch(app), nonce, false)
  hold(app, pin, id, tonumber(ARGV[9]), tonumber(ARGV[10]))
  return { now, 'held', pin.epoch, pin.nonce, 0 }
end
-- Asked again, since the answer got lost.
if pin.nonce == nonce and holds(pin, id) then return { now, 'held', pin.epoch, pin.nonce, 0 } end
return { now, 'stale' }
