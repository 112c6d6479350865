-- The index of any number of volumes, which share these tables and do not see each other.
--
-- What is text in metadata is kept as bytes (UTF-8, in lower case) where searches compare it: bytes compare the same
-- under every collation, and may hold U+0000, which PostgreSQL's text may not. Names that are looked up whole are text
-- in which U+0000 is written as \0 and a backslash as \\.

-- Tables of these names that are not ours, such as those of the service that this one follows, are kept under another.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['dpd_indexing_state', 'metadata_key', 'access_rule', 'key_count', 'data_product',
                                'document', 'leaf', 'annotation', 'failing_file', 'reindex_request']
    LOOP
        IF to_regclass(quote_ident(current_schema()) || '.' || quote_ident(name)) IS NOT NULL THEN
            EXECUTE format('ALTER TABLE %I.%I RENAME TO %I', current_schema(), name, name || '_before_0001');
            RAISE WARNING 'a table % was there before ours: it is % now', name, name || '_before_0001';
        END IF;
    END LOOP;
END
$$;

-- How each volume stands: the lease on it, and what /status shows. Whoever writes the index of a volume locks its row
-- first; an indexer also checks that the epoch is the one of its lease.
CREATE TABLE dpd_indexing_state (
    volume_prefix text PRIMARY KEY,
    volume_name text NOT NULL,
    -- What decides on uids and rows beside the metadata. When it changes, the generation goes up, and what earlier
    -- ones wrote is read anew.
    origin text NOT NULL,
    generation integer NOT NULL DEFAULT 1,
    -- Goes up at each takeover.
    epoch bigint NOT NULL DEFAULT 0,
    -- The process that has the lease; NULL when it was given back.
    holder uuid,
    lease_seconds double precision NOT NULL DEFAULT 0,
    indexed_by text,
    last_heartbeat timestamptz,
    indexing_running boolean NOT NULL DEFAULT false,
    started_at timestamptz,
    completed_at timestamptz,
    files_indexed bigint NOT NULL DEFAULT 0,
    -- What the indexer publishes, as shared::status::Indexing.
    progress jsonb,
    -- When a search could last begin to answer differently.
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Every dotted key that occurs in metadata. A key may be of any length, so its SHA-256 is what is unique.
CREATE TABLE metadata_key (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    volume_prefix text NOT NULL REFERENCES dpd_indexing_state,
    hash bytea NOT NULL,
    path text NOT NULL,
    UNIQUE (volume_prefix, hash)
);

-- Every set of groups that guards products, and how many it guards; NULL: everybody may see them.
CREATE TABLE access_rule (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    volume_prefix text NOT NULL REFERENCES dpd_indexing_state,
    hash bytea NOT NULL,
    groups text[],
    products bigint NOT NULL DEFAULT 0,
    products_on_volume bigint NOT NULL DEFAULT 0,
    UNIQUE (volume_prefix, hash)
);

-- How many of a rule's products have a value under a key of rows, and how many of these are numbers.
CREATE TABLE key_count (
    access integer NOT NULL REFERENCES access_rule,
    key integer NOT NULL REFERENCES metadata_key,
    products bigint NOT NULL,
    numbers bigint NOT NULL,
    PRIMARY KEY (access, key)
);

-- The products, narrow: the metadata itself is beside them in `document`.
CREATE TABLE data_product (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    volume_prefix text NOT NULL REFERENCES dpd_indexing_state,
    uid uuid NOT NULL,
    execution_block text NOT NULL,
    date_created date NOT NULL,
    -- NULL: nothing on the volume stands behind it.
    folder text COLLATE "C",
    metadata_file text,
    store_name text NOT NULL,
    access integer NOT NULL REFERENCES access_rule,
    size bigint,
    -- Whether the size was looked for, found or not.
    measured boolean NOT NULL DEFAULT false,
    -- The version of the metadata file, for the walk to tell an unchanged one without reading it; times in nanoseconds.
    file_size bigint,
    file_inode bigint,
    file_modified bigint,
    file_changed bigint,
    digest bytea,
    -- Who wrote it when.
    generation integer NOT NULL,
    epoch bigint NOT NULL,
    written_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (volume_prefix, uid),
    UNIQUE (volume_prefix, folder)
);
CREATE INDEX data_product_newest ON data_product (volume_prefix, date_created DESC, uid);
-- An id may be longer than an index takes.
CREATE INDEX data_product_execution_block ON data_product (volume_prefix, substring(execution_block FROM 1 FOR 100));

-- The metadata as it is written: json and not jsonb, which would lose the order of keys and refuses U+0000.
CREATE TABLE document (
    product bigint PRIMARY KEY REFERENCES data_product ON DELETE CASCADE,
    metadata json NOT NULL
);
DO $$
BEGIN
    EXECUTE 'ALTER TABLE document ALTER COLUMN metadata SET COMPRESSION lz4';
EXCEPTION
    -- PostgreSQL 13, or one built without it.
    WHEN syntax_error OR feature_not_supported OR invalid_parameter_value THEN NULL;
END
$$;

-- Every value of every product under its key: what searches test and order by. No foreign keys: checking them would
-- take longer than all else that is done to write these rows, and one place in the code writes them.
CREATE TABLE leaf (
    product bigint NOT NULL,
    key integer NOT NULL,
    -- Its text in lower case.
    value bytea NOT NULL,
    -- What it is where it is a number.
    number double precision,
    -- The day where it reads as a date, in days since 0000-12-31: `date` does not reach as far as what may be written.
    day integer
);
CREATE INDEX leaf_product ON leaf (product, key);
-- A value may be longer than an index takes.
CREATE INDEX leaf_value ON leaf (key, substring(value FROM 1 FOR 64));
CREATE INDEX leaf_number ON leaf (key, number) WHERE number IS NOT NULL;

-- Texts that people add. They hang on the uid and outlive the product's absence.
CREATE TABLE annotation (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    volume_prefix text NOT NULL REFERENCES dpd_indexing_state,
    data_product_uid uuid NOT NULL,
    annotation_text text NOT NULL,
    user_principal_name text NOT NULL,
    timestamp_created timestamptz NOT NULL DEFAULT clock_timestamp(),
    timestamp_modified timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- The text as a leaf's value and day.
    value bytea NOT NULL,
    day integer
);
CREATE INDEX annotation_product ON annotation (volume_prefix, data_product_uid);

-- Metadata files that do not read.
CREATE TABLE failing_file (
    volume_prefix text NOT NULL REFERENCES dpd_indexing_state,
    folder text COLLATE "C" NOT NULL,
    path text NOT NULL,
    error text NOT NULL,
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    file_size bigint,
    file_inode bigint,
    file_modified bigint,
    file_changed bigint,
    PRIMARY KEY (volume_prefix, folder)
);

-- That a walk of the whole volume is wanted. Whoever holds the lease next makes it.
CREATE TABLE reindex_request (
    volume_prefix text PRIMARY KEY REFERENCES dpd_indexing_state,
    requested_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
