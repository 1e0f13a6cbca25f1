-- Dissector of captures that `p2pl export --pcapng` writes: wireshark -X lua_script:p2pl.lua messages.pcapng
local p2pl = Proto("p2pl", "p2pl_async message")
local fates = { [0] = "delivered", [1] = "partial", [2] = "in flight", [3] = "lost" }
local f = p2pl.fields
f.src = ProtoField.uint32("p2pl.from", "From")
f.dst = ProtoField.uint32("p2pl.to", "To")
f.number = ProtoField.uint32("p2pl.number", "Number")
f.fate = ProtoField.uint8("p2pl.fate", "Fate", base.DEC, fates)
f.length = ProtoField.uint32("p2pl.length", "Length of the message")

function p2pl.dissector(buffer, info, tree)
  if buffer:len() < 20 then return 0 end
  local own = tree:add(p2pl, buffer(0, 20))
  own:add(f.src, buffer(0, 4))
  own:add(f.dst, buffer(4, 4))
  own:add(f.number, buffer(8, 4))
  own:add(f.fate, buffer(12, 1))
  own:add(f.length, buffer(16, 4))
  info.cols.protocol = "P2PL"
  info.cols.src = "device " .. buffer(0, 4):uint()
  info.cols.dst = "device " .. buffer(4, 4):uint()
  info.cols.info = "message " .. buffer(8, 4):uint() .. ", " .. buffer(16, 4):uint() .. " B, " .. (fates[buffer(12, 1):uint()] or "?")
  if buffer:len() > 20 then
    local msgpack = Dissector.get("msgpack")
    if msgpack then msgpack:call(buffer(20):tvb(), info, tree) end
  end
  return buffer:len()
end

DissectorTable.get("wtap_encap"):add(wtap.USER0, p2pl)
