-- app, name, epoch, nonce of the claim it moves under; node, region, epoch and nonce of the new claim, grace, hold.
local app, name, node, region, epoch, nonce = ARGV[2], ARGV[3], ARGV[6], ARGV[7], ARGV[8], ARGV[9]
local id = alive(node)
if not id then return { now, 'unknown' } end
local pin = find(app, name)
if not pin then return { now, 'stale' } end
if pin.epoch == ARGV[4] and pin.nonce == ARGV[5] and is_above(epoch, nonce, pin.epoch, pin.nonce) then
  raise(TOPS, app, number_of(epoch))
  win(app, pin, id, region, epoch, nonce, false)
  hold(app, pin, id, tonumber(ARGV[11]), tonumber(ARGV[10]))
  return { now, 'held', pin.epoch, pin.nonce, 0 }
end
-- Asked again, since the answer got lost: perhaps by the next life of the node.
if pin.epoch == epoch and pin.nonce == nonce and pin.region == region then
  hold(app, pin, id, tonumber(ARGV[11]), tonumber(ARGV[10]))
  return { now, 'held', pin.epoch, pin.nonce, 0 }
end
return { now, 'stale' }
