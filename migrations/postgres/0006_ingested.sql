-- Events of runs of other hubs that programs brought in.
CREATE TABLE ingested_events (
  tenant_id UUID NOT NULL,
  -- The hub that they are of, as their sender named it.
  source TEXT NOT NULL,
  run_id TEXT NOT NULL,
  event_id TEXT NOT NULL,
  seq BIGINT NOT NULL,
  event TEXT NOT NULL,
  at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, source, run_id, event_id)
);
CREATE INDEX ingested_events_run ON ingested_events (tenant_id, run_id, seq);
