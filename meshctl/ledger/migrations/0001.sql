-- Instants are ISO 8601 UTC text. The *_clock columns are seconds of the steady clock (see meshctl/clock.py),
-- which deadlines are measured on. Columns that end in _key are keyed hashes: they find, they cannot tell.

CREATE TABLE messages (
    message_id     TEXT PRIMARY KEY,
    claim          TEXT,
    file_name      TEXT NOT NULL,
    use_case       TEXT,
    workflow_id    TEXT,
    state          TEXT NOT NULL,
    overdue        TEXT,
    assumed        INTEGER NOT NULL DEFAULT 0,
    asked          TEXT NOT NULL DEFAULT '',
    awaiting       TEXT NOT NULL DEFAULT '',
    mesh_id        TEXT,
    local_id_key   BLOB,
    patient_key    BLOB,
    repeat_of      TEXT,
    resend_of      TEXT,
    size_bytes     INTEGER NOT NULL,
    sha256         BLOB,
    reason_code    TEXT,
    reason_event   TEXT,
    reason_text    TEXT,
    reason_advice  TEXT,
    created_at     TEXT NOT NULL,
    updated_at     TEXT NOT NULL,
    queued_clock   REAL,
    sent_clock     REAL,
    received_clock REAL
) WITHOUT ROWID;

CREATE INDEX messages_by_state ON messages (state, queued_clock);
CREATE INDEX messages_by_claim ON messages (claim);
CREATE INDEX messages_by_sha256 ON messages (sha256) WHERE sha256 IS NOT NULL;
CREATE INDEX messages_by_patient ON messages (patient_key) WHERE patient_key IS NOT NULL;
CREATE INDEX messages_by_mesh_id ON messages (mesh_id) WHERE mesh_id IS NOT NULL;
CREATE INDEX messages_by_local_id ON messages (local_id_key) WHERE local_id_key IS NOT NULL;
CREATE INDEX messages_overdue ON messages (overdue) WHERE overdue IS NOT NULL;

-- The ids in a payload by which an acknowledgement can refer back to it.
CREATE TABLE message_references (
    reference_key BLOB NOT NULL,
    message_id    TEXT NOT NULL REFERENCES messages (message_id) ON DELETE CASCADE,
    PRIMARY KEY (reference_key, message_id)
) WITHOUT ROWID;
CREATE INDEX references_by_message ON message_references (message_id);

CREATE TABLE history (
    message_id TEXT NOT NULL REFERENCES messages (message_id) ON DELETE CASCADE,
    step       INTEGER NOT NULL,
    at         TEXT NOT NULL,
    event      TEXT NOT NULL,
    state      TEXT NOT NULL,
    code       TEXT,
    text       TEXT,
    PRIMARY KEY (message_id, step)
) WITHOUT ROWID;

-- Files of the client's folders that have been dealt with and still lie there.
CREATE TABLE seen_files (
    folder   TEXT NOT NULL,
    name_key BLOB NOT NULL,
    outcome  TEXT NOT NULL,
    PRIMARY KEY (folder, name_key)
) WITHOUT ROWID;

CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
