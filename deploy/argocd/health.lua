-- Argo CD's view of a DatabaseClusterRef, so that sync waves wait for the Secret. Flux needs nothing: it works on kstatus.
-- docs/argo-cd.md installs it, with the actions beside it.
local status = obj.status or {}
if status.observedGeneration ~= obj.metadata.generation or status.conditions == nil then
  return { status = "Progressing", message = "Waiting for the operator to see this version" }
end

local conditions = {}
for _, condition in ipairs(status.conditions) do
  conditions[condition.type] = condition
end

local function is(type, value)
  return conditions[type] ~= nil and conditions[type].status == value
end

local function health(status, type)
  local condition = conditions[type]
  return { status = status, message = condition.reason .. ": " .. condition.message }
end

if is("Stalled", "True") then
  return health("Degraded", "Stalled")
end
-- A sync waits for Suspended without end, as it waits for Progressing: a suspended resource with a good Secret is Healthy. One
-- without is Stalled, and was handled above.
if is("Reconciling", "True") then
  return health("Progressing", "Reconciling")
end
-- A transient failure upstream does not change Ready for a while, since the Secret still works; the message then says so.
if is("Ready", "True") then
  return health("Healthy", is("Fresh", "False") and "Fresh" or "Ready")
end
if is("Ready", "False") then
  return health("Degraded", "Ready")
end
return { status = "Progressing", message = "Waiting for the condition Ready" }
