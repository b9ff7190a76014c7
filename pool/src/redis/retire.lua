local name, life = ARGV[2], ARGV[3]
local all = read()
local me = all[name]
if me and me.life == life then
  leave_behind(me.addresses or '')
  remove(name)
  all[name] = nil
  for _, member in pairs(all) do
    member.addresses = member.addresses or ''
  end
  claim(all)
end
return 0
