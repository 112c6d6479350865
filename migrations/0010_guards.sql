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

-- When a search by those whom a rule lets pass could last begin to answer differently.
ALTER TABLE access_rule ADD COLUMN updated_at timestamptz NOT NULL DEFAULT clock_timestamp();
UPDATE access_rule r SET updated_at = s.updated_at FROM dpd_indexing_state s WHERE s.volume_prefix = r.volume_prefix;

-- The rule of a failing file's last good version, which is what says who may know of it; NULL where it has none.
ALTER TABLE failing_file ADD COLUMN access integer;
UPDATE failing_file f SET access = p.access FROM data_product p
WHERE p.volume_prefix = f.volume_prefix AND p.folder = f.folder;

-- A size counts nothing of other products in a product's folder, so those that did are measured again.
UPDATE data_product o SET measured = false WHERE o.folder IS NOT NULL AND (EXISTS
    (SELECT FROM data_product i WHERE i.volume_prefix = o.volume_prefix AND i.folder <> o.folder
        AND (o.folder = '' OR i.folder > o.folder || '/' AND i.folder < o.folder || '0'))
    OR EXISTS (SELECT FROM failing_file i WHERE i.volume_prefix = o.volume_prefix AND i.folder <> o.folder
        AND (o.folder = '' OR i.folder > o.folder || '/' AND i.folder < o.folder || '0')));
