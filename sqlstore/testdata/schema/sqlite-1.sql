BEGIN TRANSACTION;
CREATE TABLE byok_events (
			id     TEXT NOT NULL PRIMARY KEY,
			tenant TEXT NOT NULL,
			time   INTEGER NOT NULL,
			op     TEXT NOT NULL,
			event  TEXT NOT NULL
		) STRICT;
INSERT INTO "byok_events" VALUES('e1','t',1795694400123456789,'seal','{"id":"e1","time":"2026-11-26T12:00:00.123456789Z","op":"seal","outcome":"success","reason":"why\n''","scope":{"tenant":"t"}}');
INSERT INTO "byok_events" VALUES('e2','t',1795694400123456790,'revoke','{"id":"e2","time":"2026-11-26T12:00:00.12345679Z","op":"revoke","outcome":"success","scope":{"tenant":"t"}}');
CREATE TABLE byok_items (
			part     TEXT NOT NULL,
			id       TEXT NOT NULL,
			revision INTEGER NOT NULL CHECK (revision > 0),
			value    BLOB NOT NULL CHECK (length(value) > 0),
			PRIMARY KEY (part, id)
		) STRICT;
INSERT INTO "byok_items" VALUES('part!''%_\','~',2,X'00FF76616C7565');
INSERT INTO "byok_items" VALUES('p','B',1,X'79');
INSERT INTO "byok_items" VALUES('p','a',1,X'78');
CREATE TABLE byok_schema (version INTEGER NOT NULL PRIMARY KEY, migrated_at TEXT NOT NULL);
INSERT INTO "byok_schema" VALUES(1,'2026-11-26T15:26:58Z');
CREATE INDEX byok_events_tenant ON byok_events (tenant, time, id);
CREATE INDEX byok_events_op ON byok_events (tenant, op, time, id);
COMMIT;
