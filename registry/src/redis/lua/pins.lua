-- app and name of the last one before (or empty), how many. Looks at a bounded piece: the answer says where to go on.
local app, name, most = ARGV[2], ARGV[3], tonumber(ARGV[4])
local found, known, budget = {}, {}, SWEEP
local after = name ~= '' and (name .. '\0\255') or ''
if not call('ZSCORE', APPS, app) then
  app = call('ZRANGEBYLEX', APPS, app == '' and '-' or ('(' .. app), '+', 'LIMIT', 0, 1)[1]
  name, after = '', ''
end
while app and budget > 0 and #found < most do
  local from = after == '' and '-' or ('(' .. after)
  local piece = math.min(budget, most - #found)
  local members = call('ZRANGEBYLEX', key('pins:' .. app), from, '+', 'LIMIT', 0, piece)
  for _, member in ipairs(members) do
    local pin = parse(member)
    name, after = pin.name, pin.name .. '\0\255'
    if settle(pin, known) then found[#found + 1] = { app, view_of(pin) } end
  end
  budget = budget - math.max(1, #members)
  if #members < piece then
    app, name, after = call('ZRANGEBYLEX', APPS, '(' .. app, '+', 'LIMIT', 0, 1)[1], '', ''
  end
end
-- The app is nil at the end; else the page goes on behind this app and name.
return { now, app or '', name, found }
