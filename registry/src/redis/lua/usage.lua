-- app. Sweeps a piece first: the last part tells whether there is more, so that the number of documents is not exact yet.
local more = sweep(SWEEP)
local connections = 0
for field, value in pairs_of(call('HGETALL', key('uses:' .. ARGV[2]))) do
  local lease = field ~= 'limit' and call('ZSCORE', LEASES, field)
  if lease and tonumber(lease) > now then connections = connections + tonumber(string.match(value, '^(%d+)')) end
end
return { now, connections, call('ZCARD', key('pins:' .. ARGV[2])), more and 1 or 0 }
