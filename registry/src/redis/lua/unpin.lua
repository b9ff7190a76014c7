-- app, name. Tells the pin as it was. Nobody has it from now on; it ends once all that held it have left it, or are dead.
local app, name = ARGV[2], ARGV[3]
local pin = find(app, name)
if not pin then return { now } end
local view = view_of(pin)
if pin.region ~= '' then
  win(app, pin, nil, '', next_epoch(app), pin.nonce, true)
  pin.grace = 0
  if #pin.holders == 0 then remove(app, pin) else store(app, pin) end
end
return { now, view }
