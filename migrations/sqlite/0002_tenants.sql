-- What a tenant is, may use and has used; tokens of its services; its audit records by id.

ALTER TABLE tenants ADD COLUMN display TEXT NOT NULL DEFAULT '';
ALTER TABLE tenants ADD COLUMN plan_tier TEXT NOT NULL DEFAULT 'standard';
ALTER TABLE tenants ADD COLUMN updated_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tenants ADD COLUMN default_policy_id TEXT;
-- JSON of the published types.
ALTER TABLE tenants ADD COLUMN entitlements TEXT NOT NULL DEFAULT '{}';
ALTER TABLE tenants ADD COLUMN quotas TEXT NOT NULL DEFAULT '{}';
ALTER TABLE tenants ADD COLUMN policy TEXT NOT NULL DEFAULT '{}';
ALTER TABLE tenants ADD COLUMN metadata TEXT NOT NULL DEFAULT '{}';
UPDATE tenants SET display = name, updated_at = created_at;

-- Set for tokens that an administrator issued to a service of the tenant: whoever issued it.
ALTER TABLE api_keys ADD COLUMN issued_by TEXT;
ALTER TABLE api_keys ADD COLUMN rotated_at INTEGER;
CREATE INDEX api_keys_issued ON api_keys (tenant_id, created_at) WHERE issued_by IS NOT NULL;

-- How fast a tenant may do something: the time up to which its uses have been spent (generic cell rate algorithm).
CREATE TABLE tenant_pace (
  tenant_id BLOB NOT NULL,
  -- create, invoke, requests or tools.
  kind TEXT NOT NULL,
  spent_until INTEGER NOT NULL,
  PRIMARY KEY (tenant_id, kind)
) STRICT;

-- What a tenant with a budget has used or reserved in a window.
CREATE TABLE tenant_usage (
  tenant_id BLOB NOT NULL,
  -- m, h or d and the number of the minute, hour or day since the epoch.
  window_id TEXT NOT NULL,
  tokens INTEGER NOT NULL,
  -- Millionths of a US dollar.
  cost INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  PRIMARY KEY (tenant_id, window_id)
) STRICT;

-- The window of the tenant's budget that a run's tokens were reserved in, if its tenant has a budget.
ALTER TABLE runs ADD COLUMN budget_window TEXT;
CREATE INDEX runs_tenant_unfinished ON runs (tenant_id) WHERE status IN ('queued', 'running');

CREATE INDEX audit_tenant ON audit (tenant_id, id);
