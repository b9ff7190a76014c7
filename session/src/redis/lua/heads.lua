-- Request::Heads: node, then name and claim of each.
local node, standings = ARGV[4], { 'heads' }
for at = 5, #ARGV, 2 do
  local name = ARGV[at]
  local found, standing = session(name), {}
  if found and found.claim == ARGV[at + 1] and found.holders[node] then
    tell_others(found, node, joined(name, node))
    standing = { found.seq, found.chain }
    for holder in pairs(found.holders) do
      if holder ~= node then standing[#standing + 1] = holder end
    end
  end
  standings[#standings + 1] = standing
end
return standings
