-- The key with which the APIs of this database seal session cookies, so that what one sets another can read.

-- A table of this name that is not ours is kept under another.
DO $$
BEGIN
    IF to_regclass(quote_ident(current_schema()) || '.dpd_session_key') IS NOT NULL THEN
        EXECUTE format('ALTER TABLE %I.dpd_session_key RENAME TO dpd_session_key_before_0004', current_schema());
        RAISE WARNING 'a table dpd_session_key was there before ours: it is dpd_session_key_before_0004 now';
    END IF;
END
$$;

-- The first API that needs it makes it. When it is deleted, the next one does, and cookies that were sealed before are none
-- any more.
CREATE TABLE dpd_session_key (
    -- There is one row at the most.
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    key bytea NOT NULL CHECK (length(key) = 32),
    made_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
-- Other roles may have been given what is made in this schema.
REVOKE ALL ON dpd_session_key FROM PUBLIC;
