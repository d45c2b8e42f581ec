-- Instants are ISO 8601 UTC text. The *_clock columns are seconds of the steady clock (see meshctl/clock.py),
-- which deadlines are measured on. Columns that end in _key are keyed hashes: they find a value, they do not show it.
--
-- A message has a number, by which every other table names it: its id, a text, stands once. Where a message is
-- looked for by hash, eight bytes lead to it. Both keep the ledger small and quick.

CREATE TABLE messages (
    number           INTEGER PRIMARY KEY,
    message_id       TEXT NOT NULL UNIQUE,
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
    -- Where it went, if not by endpoint lookup, and which mailbox acknowledged it: an acknowledgement is believed
    -- from there alone.
    to_mailbox       TEXT,
    answered_by      TEXT,
    size_bytes       INTEGER NOT NULL,
    sha256           BLOB,
    -- Of a message that was made around a dropped document: its size, the identifier of its Bundle (a UUID made
    -- here), by which a later one can replace it, and the version of the document; the message id of the message
    -- that it replaces, if it names one by that. NULL for all others.
    wrapped_bytes    INTEGER,
    document_id      TEXT,
    document_version INTEGER,
    replaces         TEXT,
    -- Of a document that came in an HL7 v2 message: its number at the system that sent it, that of the one that
    -- it replaces, its content, and when that system wrote the message. Of one that was rejected because it takes
    -- a document back: the number of that document. Of a CDA document: its id. Of a report: which result of its
    -- order it is about. An edit is what its message says to be a later version of a document: a correction, or T08.
    number_key       BLOB,
    replaced_key     BLOB,
    content_key      BLOB,
    result_key       BLOB,
    is_edit          INTEGER NOT NULL DEFAULT 0,
    written_at       TEXT,
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
CREATE INDEX messages_by_state ON messages (state, queued_clock);
CREATE INDEX messages_by_sha256 ON messages (substr(sha256, 1, 8)) WHERE sha256 IS NOT NULL;
CREATE INDEX messages_by_patient ON messages (substr(patient_key, 1, 8)) WHERE patient_key IS NOT NULL;
CREATE INDEX messages_by_mesh_id ON messages (mesh_id) WHERE mesh_id IS NOT NULL;
CREATE INDEX messages_by_local_id ON messages (substr(local_id_key, 1, 8)) WHERE local_id_key IS NOT NULL;
CREATE INDEX messages_by_number ON messages (substr(number_key, 1, 8)) WHERE number_key IS NOT NULL;
CREATE INDEX messages_by_replaced_number ON messages (substr(replaced_key, 1, 8)) WHERE replaced_key IS NOT NULL;
CREATE INDEX messages_by_replaced ON messages (replaces) WHERE replaces IS NOT NULL;
CREATE INDEX messages_overdue ON messages (overdue) WHERE overdue IS NOT NULL;

-- The ids in a payload by which an acknowledgement can refer back to it.
CREATE TABLE message_references (
    reference_key BLOB NOT NULL,
    number        INTEGER NOT NULL REFERENCES messages (number) ON DELETE CASCADE,
    PRIMARY KEY (reference_key, number)
) WITHOUT ROWID;
CREATE INDEX references_by_message ON message_references (number);

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

-- Files of the client's folders that have been dealt with and are still there.
CREATE TABLE seen_files (
    folder   TEXT NOT NULL,
    name_key BLOB NOT NULL,
    outcome  TEXT NOT NULL,
    PRIMARY KEY (folder, name_key)
) WITHOUT ROWID;

CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
