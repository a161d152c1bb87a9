-- GET requests with the heads of a browser: 13 lines, three of which, and the path, differ from request to request.
-- Arguments: what stands in front of each path, a path in place of the varying ones (empty: none), Connection, and for
-- a path with %d in it how many numbers are put there in turn.

local count = 0
local prefix, path, numbers

local fixed = {
  ["sec-ch-ua"] = '"Chromium";v="156", "Not A Brand";v="24"',
  ["sec-ch-ua-mobile"] = "?0",
  ["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36",
  ["Accept"] = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8",
  ["Sec-Fetch-Site"] = "same-origin",
  ["Sec-Fetch-Mode"] = "cors",
  ["Sec-Fetch-Dest"] = "empty",
  ["Accept-Language"] = "en-US,en;q=0.9",
}

init = function(args)
  prefix, path = args[1] or "", args[2] or ""
  fixed["Connection"] = args[3] or "keep-alive"
  numbers = tonumber(args[4] or "1")
end

request = function()
  count = count + 1
  local fields = {}
  for name, value in pairs(fixed) do
    fields[name] = value
  end
  fields["Cookie"] = "session=" .. (count * 7919 % 1000003) .. "; theme=dark; id=abcdefghij" .. count
  fields["Referer"] = "http://127.0.0.1/user/alice/lab/tree/" .. (count % 9973)
  fields["If-None-Match"] = '"' .. (count * 31 % 65537) .. '"'
  local target = path
  if target == "" then
    target = "/user/alice/api/" .. (count % 1009)
  elseif string.find(target, "%%d") then
    target = string.format(target, count * 7919 % numbers)
  end
  return wrk.format("GET", prefix .. target, fields)
end
