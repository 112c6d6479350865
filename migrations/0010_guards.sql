-- What keeps guarded what is guarded: which products were removed lately, and what /status may tell to whom.

-- Tables of these names that are not ours are kept under another.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['removed_product']
    LOOP
        IF to_regclass(quote_ident(current_schema()) || '.' || quote_ident(name)) IS NOT NULL THEN
            EXECUTE format('ALTER TABLE %I.%I RENAME TO %I', current_schema(), name, name || '_before_0010');
            RAISE WARNING 'a table % was there before ours: it is % now', name, name || '_before_0010';
        END IF;
    END LOOP;
END
$$;

-- The folders of restricted products that were removed, with the rule that guarded each: a metadata file may be away for a
-- moment only, and what is beside it is not everybody's meanwhile. They are kept for a day.
CREATE TABLE removed_product (
    volume_prefix text NOT NULL REFERENCES dpd_indexing_state,
    folder text COLLATE "C" NOT NULL,
    access integer NOT NULL,
    removed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (volume_prefix, folder, access)
);
CREATE INDEX removed_product_removed_at ON removed_product (volume_prefix, removed_at);
