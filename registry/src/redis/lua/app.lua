-- app.
local record = record_of(ARGV[2])
return { now, record[1], record[2] }
