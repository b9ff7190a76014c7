-- Nodes that live: node, url, peer address, version.
local views = {}
for _, id in ipairs(call('ZRANGEBYSCORE', LEASES, '(' .. text(now), '+inf')) do
  views[#views + 1] = call('HMGET', key('node:' .. id), 'node', 'url', 'peer', 'version')
end
return { now, views }
