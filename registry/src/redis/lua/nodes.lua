-- Nodes that live: node, url, peer address, version, URL of its admin API.
local views = {}
for _, id in ipairs(call('ZRANGEBYSCORE', LEASES, '(' .. text(now), '+inf')) do
  views[#views + 1] = call('HMGET', key('node:' .. id), 'node', 'url', 'peer', 'version', 'admin')
end
return { now, views }
