-- Takes tokens from buckets and puts tokens back, each in one step: the sums of tollgate-filter-core's `quota`, which
-- says why they are exact (no product reaches 2^53).
--
-- KEYS: for each operation its bucket, and for a credit also the mark that it was done.
-- ARGV: the time in microseconds, or '' for Redis' own; then for each operation: kind (upto, whole, credit), tokens,
-- parts of a microsecond, cost of a token (whole, parts), tolerance (whole, parts).
-- Reply: the time, then for each operation the tokens taken and the bucket's state (whole, parts).

local MARK_MS = 60000 -- a credit that is sent again within this time is done once
local SLACK = 1000000

local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end

local function later(aw, ap, bw, bp)
  return aw > bw or (aw == bw and ap > bp)
end

local reply = { now }
local key, arg = 1, 2
while ARGV[arg] do
  local kind, tokens = ARGV[arg], tonumber(ARGV[arg + 1])
  local parts = tonumber(ARGV[arg + 2])
  local cost_whole, cost_parts = tonumber(ARGV[arg + 3]), tonumber(ARGV[arg + 4])
  local limit_whole, limit_parts = now + tonumber(ARGV[arg + 5]), tonumber(ARGV[arg + 6])
  local bucket = KEYS[key]
  arg, key = arg + 7, key + 1

  local function times(n)
    local p = n * cost_parts
    local carry = math.floor(p / parts)
    return n * cost_whole + carry, p - carry * parts
  end

  local whole, part = 0, 0
  local stored = redis.call('GET', bucket)
  if stored then
    local w, p = string.match(stored, '^(%d+) (%d+)$')
    whole, part = tonumber(w or 0), tonumber(p or 0)
  end
  if part >= parts then whole, part = whole + 1, 0 end
  if later(whole, part, limit_whole + SLACK, limit_parts) then whole, part = limit_whole, limit_parts end

  local taken, changed = 0, false
  if kind == 'credit' then
    local mark = KEYS[key]
    key = key + 1
    if redis.call('SET', mark, '1', 'NX', 'PX', MARK_MS) then
      local w, p = times(tokens)
      whole, part = whole - w, part - p
      if part < 0 then whole, part = whole - 1, part + parts end
      if whole < 0 then whole, part = 0, 0 end
      changed = stored
    end
  else
    local base_whole, base_part = whole, part
    if base_whole < now then base_whole, base_part = now, 0 end
    local there_whole, there_part = limit_whole - base_whole, limit_parts - base_part
    if there_part < 0 then there_whole, there_part = there_whole - 1, there_part + parts end
    local function affordable(n)
      local w, p = times(n)
      return not later(w, p, there_whole, there_part)
    end
    if there_whole >= 0 then
      if affordable(tokens) then
        taken = tokens
      elseif kind == 'upto' then
        -- The quotient of doubles is off by less than one; the exact sums decide.
        taken = math.floor((there_whole + there_part / parts) / (cost_whole + cost_parts / parts))
        if taken > tokens then taken = tokens end
        while taken > 0 and not affordable(taken) do taken = taken - 1 end
        while taken < tokens and affordable(taken + 1) do taken = taken + 1 end
      end
    end
    if taken > 0 then
      local w, p = times(taken)
      whole, part = base_whole + w, base_part + p
      if part >= parts then whole, part = whole + 1, part - parts end
      changed = true
    end
  end

  if changed then
    if whole < now then
      -- Full, which is what no key means, too.
      redis.call('DEL', bucket)
    else
      local ms = math.ceil((whole - now) / 1000) + 1000
      redis.call('SET', bucket, string.format('%.0f %.0f', whole, part), 'PX', string.format('%.0f', ms))
    end
  end
  reply[#reply + 1] = taken
  reply[#reply + 1] = whole
  reply[#reply + 1] = part
end
return reply
