-- How far each audit sink has come: the last record of each tenant that it has for certain.
CREATE TABLE audit_sinks (
  sink TEXT NOT NULL,
  tenant_id UUID NOT NULL,
  seq BIGINT NOT NULL,
  PRIMARY KEY (sink, tenant_id)
);
