-- A message has a number, by which everything else in here names it: its id, a text, stands once. Where a message
-- is looked for by hash, eight bytes lead to it. Both keep the ledger small, and so as quick when it is large.

DROP INDEX messages_by_state;
DROP INDEX messages_by_claim;
DROP INDEX messages_by_sha256;
DROP INDEX messages_by_patient;
DROP INDEX messages_by_mesh_id;
DROP INDEX messages_by_local_id;
DROP INDEX messages_overdue;
DROP INDEX references_by_message;
ALTER TABLE messages RENAME TO old_messages;
ALTER TABLE message_references RENAME TO old_references;
ALTER TABLE history RENAME TO old_history;

CREATE TABLE messages (
    number           INTEGER PRIMARY KEY,
    message_id       TEXT NOT NULL UNIQUE,
    claim            TEXT,
    file_name        TEXT NOT NULL,
    use_case         TEXT,
    workflow_id      TEXT,
    state            TEXT NOT NULL,
    overdue          TEXT,
    assumed          INTEGER NOT NULL DEFAULT 0,
    asked            TEXT NOT NULL DEFAULT '',
    awaiting         TEXT NOT NULL DEFAULT '',
    mesh_id          TEXT,
    local_id_key     BLOB,
    patient_key      BLOB,
    repeat_of        TEXT,
    resend_of        TEXT,
    size_bytes       INTEGER NOT NULL,
    wrapped_bytes    INTEGER,
    sha256           BLOB,
    document_id      TEXT,
    document_version INTEGER,
    reason_code      TEXT,
    reason_event     TEXT,
    reason_text      TEXT,
    reason_advice    TEXT,
    created_at       TEXT NOT NULL,
    updated_at       TEXT NOT NULL,
    queued_clock     REAL,
    sent_clock       REAL,
    received_clock   REAL
);
CREATE TABLE message_references (
    reference_key BLOB NOT NULL,
    number        INTEGER NOT NULL REFERENCES messages (number) ON DELETE CASCADE,
    PRIMARY KEY (reference_key, number)
) WITHOUT ROWID;
CREATE TABLE history (
    number INTEGER NOT NULL REFERENCES messages (number) ON DELETE CASCADE,
    step   INTEGER NOT NULL,
    at     TEXT NOT NULL,
    event  TEXT NOT NULL,
    state  TEXT NOT NULL,
    code   TEXT,
    text   TEXT,
    PRIMARY KEY (number, step)
) WITHOUT ROWID;

INSERT INTO messages (message_id, claim, file_name, use_case, workflow_id, state, overdue, assumed, asked, awaiting,
        mesh_id, local_id_key, patient_key, repeat_of, resend_of, size_bytes, wrapped_bytes, sha256, document_id,
        document_version, reason_code, reason_event, reason_text, reason_advice, created_at, updated_at,
        queued_clock, sent_clock, received_clock)
    SELECT message_id, claim, file_name, use_case, workflow_id, state, overdue, assumed, asked, awaiting,
        mesh_id, local_id_key, patient_key, repeat_of, resend_of, size_bytes, wrapped_bytes, sha256, document_id,
        document_version, reason_code, reason_event, reason_text, reason_advice, created_at, updated_at,
        queued_clock, sent_clock, received_clock
    FROM old_messages ORDER BY message_id;
INSERT OR IGNORE INTO message_references (reference_key, number)
    SELECT substr(reference_key, 1, 8), number FROM old_references JOIN messages USING (message_id)
    ORDER BY reference_key;
INSERT INTO history (number, step, at, event, state, code, text)
    SELECT number, step, at, event, old_history.state, code, text FROM messages JOIN old_history USING (message_id)
    ORDER BY number, step;
DROP TABLE old_references;
DROP TABLE old_history;
DROP TABLE old_messages;

CREATE INDEX messages_by_state ON messages (state, queued_clock);
CREATE INDEX messages_by_claim ON messages (claim);
CREATE INDEX messages_by_sha256 ON messages (substr(sha256, 1, 8)) WHERE sha256 IS NOT NULL;
CREATE INDEX messages_by_patient ON messages (substr(patient_key, 1, 8)) WHERE patient_key IS NOT NULL;
CREATE INDEX messages_by_mesh_id ON messages (mesh_id) WHERE mesh_id IS NOT NULL;
CREATE INDEX messages_by_local_id ON messages (substr(local_id_key, 1, 8)) WHERE local_id_key IS NOT NULL;
CREATE INDEX messages_overdue ON messages (overdue) WHERE overdue IS NOT NULL;
CREATE INDEX references_by_message ON message_references (number);
