-- Where a letter went, if not by endpoint lookup, and which mailbox answered it: an acknowledgement is believed from
-- there alone.

ALTER TABLE messages ADD COLUMN to_mailbox TEXT;
ALTER TABLE messages ADD COLUMN answered_by TEXT;
