-- A message that was made around a dropped document: its size, the identifier of its Bundle (a UUID made here),
-- by which a later one can replace it, and the version of the document. NULL for all others.

ALTER TABLE messages ADD COLUMN wrapped_bytes INTEGER;
ALTER TABLE messages ADD COLUMN document_id TEXT;
ALTER TABLE messages ADD COLUMN document_version INTEGER;
