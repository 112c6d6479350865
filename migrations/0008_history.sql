-- What processes remember of a database is true of one history of it. It may become an earlier state of itself: a standby
-- that lost the last commits is promoted, a copy is put back. Then the same numbers are handed out again, for other things.

ALTER TABLE dpd_indexing_state
    -- Random, and another at each takeover: who remembers something beside another one forgets it.
    ADD COLUMN incarnation uuid NOT NULL DEFAULT gen_random_uuid(),
    -- Counts the transactions of the present lease that wrote: its holder notices when some of them were lost.
    ADD COLUMN written bigint NOT NULL DEFAULT 0;

-- Random, so that pages that are kept in memory are never taken for those of another segment of the same id.
ALTER TABLE segment ADD COLUMN tag uuid NOT NULL DEFAULT gen_random_uuid();
