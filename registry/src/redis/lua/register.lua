-- node, region, url, peer address, version, revision, lease, URL of its admin API.
local node, region, revision, lease = ARGV[2], ARGV[3], tonumber(ARGV[7]), tonumber(ARGV[8])
-- Data of a later revision is only written once no node of an earlier one lives, and then none may come.
local least = tonumber(call('GET', key('revision')) or '1')
if revision < least then return { now, 'outdated', least } end
local id = alive(node)
if not id then
  local before = call('HGET', NODES, node)
  if before then bury(before, tonumber(call('ZSCORE', LEASES, before) or now), nil) end
  id = text(call('INCR', key('last')))
  call('HSET', NODES, node, id)
end
call('ZADD', LEASES, text(now + lease), id)
call('HSET', key('node:' .. id), 'node', node, 'lease', text(lease), 'revision', text(revision))
call('HSET', key('node:' .. id), 'url', ARGV[4], 'peer', ARGV[5], 'version', ARGV[6], 'admin', ARGV[9])
call('HSET', URLS, region, ARGV[4])
for _, other in ipairs(call('ZRANGEBYSCORE', LEASES, '(' .. text(now), '+inf')) do
  revision = math.min(revision, tonumber(call('HGET', key('node:' .. other), 'revision') or '1'))
end
if revision > least then call('SET', key('revision'), text(revision)) end
return { now, 'registered', call('INFO', 'replication'), call('INFO', 'server') }
