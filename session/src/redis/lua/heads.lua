-- Request::Heads: node, then name, claim and hold of each.
local node, standings = ARGV[4], { 'heads' }
for at = 5, #ARGV, 3 do
  local name = ARGV[at]
  local found, standing = session(name), {}
  if found and found.claim == ARGV[at + 1] and found.holders[node] == ARGV[at + 2] then
    tell_joined(found, name, node)
    standing = { found.seq, found.chain }
    for holder in pairs(found.holders) do
      if holder ~= node then standing[#standing + 1] = holder end
    end
  end
  standings[#standings + 1] = standing
end
return standings
