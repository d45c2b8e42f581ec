-- A letter's folder in the work folder bears the id of its message: no message has a claim any more.

DROP INDEX messages_by_claim;
ALTER TABLE messages DROP COLUMN claim;
