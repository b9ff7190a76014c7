-- app, name.
local pin = find(ARGV[2], ARGV[3])
if not pin then return { now } end
return { now, view_of(pin) }
