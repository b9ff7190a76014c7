-- node, region, grace, then app, name, epoch, nonce, hold of each pin.
local node, region, grace = ARGV[2], ARGV[3], tonumber(ARGV[4])
local id = alive(node)
if not id then return { now, 'unknown' } end
local answer = { now, 'asserted' }
for index = 5, #ARGV, 5 do
  local app, name, epoch, nonce = ARGV[index], ARGV[index + 1], ARGV[index + 2], ARGV[index + 3]
  local number = tonumber(ARGV[index + 4])
  raise(TOPS, app, number_of(epoch))
  local pin = find(app, name)
  if not pin then
    -- Others may have had it under a higher claim meanwhile: claims do not fall.
    local ended = tonumber(call('HGET', ENDED, app) or '0')
    if number_of(epoch) < ended then epoch = next_epoch(app) end
    pin = new_pin(name, epoch, nonce, region)
    hold(app, pin, id, number, grace)
    answer[#answer + 1] = { 'held', epoch, nonce }
  else
    local higher, ours = is_above(epoch, nonce, pin.epoch, pin.nonce), pin.region == region
    if higher then win(app, pin, id, region, epoch, nonce, ours) end
    if higher or ours then
      hold(app, pin, id, number, grace)
      answer[#answer + 1] = { 'held', pin.epoch, pin.nonce }
    else
      answer[#answer + 1] = { 'lost', pin.region, url_of(pin.region), pin.epoch, pin.nonce }
    end
  end
end
return answer
