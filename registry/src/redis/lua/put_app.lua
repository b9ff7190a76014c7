-- app, version that is replaced, whether there is a record now, the record.
local app, version = ARGV[2], ARGV[3]
local record = record_of(app)
if version == record[1] or (version == '0' and not record[2]) then
  -- At least the clock: a version that a fail-over rolled back is not given again.
  call('HSET', key('versions'), app, text(math.max(now, tonumber(record[1]) + 1)))
  if ARGV[4] == '1' then call('HSET', key('records'), app, ARGV[5]) else call('HDEL', key('records'), app) end
  record = record_of(app)
end
return { now, record[1], record[2] }
