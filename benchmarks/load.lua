-- What wrk sends and counts, by a plan (a Lua table) that benchmarks/wrk.py writes.
--
-- Every body is made here, so that units and events are new each time. After the plan's seconds each
-- connection asks /drain, which is never answered; when the last does, nothing is in flight, this prints
-- ENDED and is stopped. So what the ledger holds can be compared with what was acknowledged, to the row.

local ffi = require("ffi")
ffi.cdef [[
  typedef struct { long s; long us; } rialto_time;
  int gettimeofday(rialto_time *now, void *zone);
]]
local clock = ffi.new("rialto_time")

local function now()
  ffi.C.gettimeofday(clock, nil)
  return tonumber(clock.s) + tonumber(clock.us) / 1e6
end

local threads = {}

function setup(thread)
  threads[#threads + 1] = thread
  thread:set("thread_number", #threads)
end

local plan, head, prefix, units, decisions
local calls, serial, parked, has_ended = 0, 0, 0, false
-- Read by done(), so global to the thread.
first_at, last_at, acknowledged, accepted, duplicates, refused_items = 0, 0, 0, 0, 0, 0
statuses, reasons, wrong = {}, {}, ""

local function lines(text)
  local found = {}
  for line in text:gmatch("[^\n]+") do found[#found + 1] = line end
  return found
end

function init(args)
  plan = dofile(args[1])
  local random = io.open("/dev/urandom", "rb")
  local a, b, c, d = random:read(4):byte(1, 4)
  random:close()
  math.randomseed(((a * 256 + b) * 256 + c) * 256 + d + thread_number)
  prefix = string.format("%08x", math.random(0, 2 ^ 31 - 1)) .. string.format("%02x", thread_number)
  units, decisions = lines(plan.units), lines(plan.decisions)
  local headers = { " HTTP/1.1" }
  for name, value in pairs(plan.headers) do headers[#headers + 1] = name .. ": " .. value end
  head = table.concat(headers, "\r\n") .. "\r\n"
  if #plan.path == 1 then head = plan.method .. " " .. plan.path[1] .. head end
end

local makers = {
  -- A unit nobody has seen: random, or in the order of time as UUIDv7 and ULID are.
  random = function()
    return string.format("%04x%04x%04x%04x", math.random(0, 65535), math.random(0, 65535),
      math.random(0, 65535), math.random(0, 65535))
  end,
  ordered = function() return string.format("%s%08x", plan.time_prefix, calls) end,
  unit = function() return units[math.random(#units)] end,
  each = function() return units[(calls - 1) % #units + 1] end,
  decision = function() return decisions[math.random(#decisions)] end,
  item = function() return prefix .. serial end,
  -- Never seen, and in no order, as UUIDv4 are; with little for the generator to do.
  key = function() return math.random(0, 2147483647) .. "-" .. prefix .. serial end,
}

local function is_over(at)
  return calls > 2 and at > first_at + plan.seconds
end

local function end_when(is_done)
  if is_done and not has_ended then
    has_ended = true
    io.write("ENDED\n")
    io.flush()
  end
end

local parts = {}

-- Texts and names of makers in turn, appended to parts after the n-th.
local function fill(template, n)
  for k = 1, #template do
    n = n + 1
    parts[n] = k % 2 == 1 and template[k] or makers[template[k]]()
  end
  return n
end

local function full_head()
  if #plan.path == 1 then return head end
  return plan.method .. " " .. table.concat(parts, "", 1, fill(plan.path, 0)) .. head
end

local function body()
  local n = 1
  parts[1] = plan.before
  for i = 1, plan.per_body do
    serial = serial + 1
    if i > 1 then n = n + 1; parts[n] = "," end
    n = fill(plan.items[serial % #plan.items + 1], n)
  end
  parts[n + 1] = plan.after
  return table.concat(parts, "", 1, n + 1)
end

function request()
  calls = calls + 1
  local at = now()
  if calls == 2 then first_at = at end -- wrk makes one request only to look at it
  if plan.drains and is_over(at) then
    parked = parked + 1
    end_when(parked == plan.connections)
    return "GET /drain HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
  end
  if plan.method == "GET" then return full_head() .. "\r\n" end
  local content = body()
  return full_head() .. "Content-Length: " .. #content .. "\r\n\r\n" .. content
end

function response(status, _, content)
  last_at = now()
  end_when(not plan.drains and is_over(last_at))
  statuses[status] = (statuses[status] or 0) + 1
  if status ~= 200 then
    if wrong == "" then wrong = content:sub(1, 400) end
    return
  end
  acknowledged = acknowledged + 1
  if plan.counts == "decisions" then
    local reason = content:match('"reason":"([a-z_]+)"') or "none"
    reasons[reason] = (reasons[reason] or 0) + 1
  elseif plan.counts == "events" then
    accepted = accepted + tonumber(content:match('"accepted":(%d+)'))
    duplicates = duplicates + tonumber(content:match('"duplicates":(%d+)'))
    if not content:find('"rejected":[]', 1, true) then
      refused_items = refused_items + 1
      if wrong == "" then wrong = content:sub(1, 400) end
    end
  end
end

local function add(totals, more)
  for name, count in pairs(more) do totals[name] = (totals[name] or 0) + count end
end

local function object(counts)
  local fields = {}
  for name, count in pairs(counts) do fields[#fields + 1] = string.format('"%s":%.0f', name, count) end
  return "{" .. table.concat(fields, ",") .. "}"
end

function done(summary, latency, _)
  local sums, all_statuses, all_reasons, from, to, text = {}, {}, {}, math.huge, 0, ""
  for _, thread in ipairs(threads) do
    for _, name in ipairs({ "acknowledged", "accepted", "duplicates", "refused_items" }) do
      sums[name] = (sums[name] or 0) + thread:get(name)
    end
    add(all_statuses, thread:get("statuses"))
    add(all_reasons, thread:get("reasons"))
    from, to = math.min(from, thread:get("first_at")), math.max(to, thread:get("last_at"))
    if text == "" then text = thread:get("wrong"):gsub('[%c"\\]', "'") end
  end
  local errors = {
    connect = summary.errors.connect, read = summary.errors.read, write = summary.errors.write,
    timeout = summary.errors.timeout,
  }
  local percentiles = {}
  for _, p in ipairs({ 50, 90, 99, 99.9 }) do percentiles["p" .. p] = latency:percentile(p) end
  io.write(string.format(
    '\nRESULT {"sums":%s,"statuses":%s,"reasons":%s,"errors":%s,"latency_us":%s,"seconds":%.6f,"wrong":"%s"}\n',
    object(sums), object(all_statuses), object(all_reasons), object(errors), object(percentiles), to - from, text))
end
