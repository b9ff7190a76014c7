-- app, name, node, region, nonce, most documents, grace, hold. Ends what is over first, a few: more than claims can begin.
local app, name, node, region, nonce = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local most, grace, number = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local id = alive(node)
if not id then return { now, 'unknown' } end
end_graces(8)
local pin = find(app, name)
if pin and pin.region ~= region then
  return { now, 'elsewhere', pin.region, url_of(pin.region), pin.epoch, pin.nonce }
end
if pin then
  hold(app, pin, id, number, grace)
  return { now, 'held', pin.epoch, pin.nonce, 0 }
end
local pins = key('pins:' .. app)
if call('ZCARD', pins) >= most then
  -- What is over, or was held by dead nodes, does not count: a piece of that now, the rest when asked again.
  local more = sweep(SWEEP)
  local active = call('ZCARD', pins)
  if active >= most then return { now, more and 'again' or 'limit', active } end
end
pin = new_pin(name, next_epoch(app), nonce, region)
hold(app, pin, id, number, grace)
return { now, 'held', pin.epoch, pin.nonce, 1 }
