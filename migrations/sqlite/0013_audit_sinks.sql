-- How far each audit sink has come: the last record of each tenant that it has for certain.
CREATE TABLE audit_sinks (
  sink TEXT NOT NULL,
  tenant_id BLOB NOT NULL,
  seq INTEGER NOT NULL,
  PRIMARY KEY (sink, tenant_id)
) STRICT;
