-- What searches read becomes columns: `leaf`, a row for each value of each product, gives way to segments, which hold the
-- values of thousands of products under one key together, compressed. They are derived from `data_product` and `document`,
-- never change once they are made, and can be thrown away and made again.

-- Tables of these names that are not ours are kept under another.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['product_number', 'segment', 'segment_page', 'superseded']
    LOOP
        IF to_regclass(quote_ident(current_schema()) || '.' || quote_ident(name)) IS NOT NULL THEN
            EXECUTE format('ALTER TABLE %I.%I RENAME TO %I', current_schema(), name, name || '_before_0003');
            RAISE WARNING 'a table % was there before ours: it is % now', name, name || '_before_0003';
        END IF;
    END LOOP;
END
$$;

-- Numbers versions of products, and moments at which one ceased to be. They are handed out while the volume's row is
-- locked, so within a volume what is committed later has the greater number.
CREATE SEQUENCE product_number;

-- Whenever what a search sees of a product becomes another, the product is given a new number.
ALTER TABLE data_product ADD COLUMN number bigint NOT NULL DEFAULT nextval('product_number');
CREATE UNIQUE INDEX data_product_number ON data_product (volume_prefix, number);
-- Lists are ordered by what segments hold.
DROP INDEX data_product_newest;

ALTER TABLE dpd_indexing_state
    -- The versions up to this number are in segments; the others, the tail, are read from their documents.
    ADD COLUMN sealed bigint NOT NULL DEFAULT 0,
    -- Another number whenever products, segments or what is superseded changed, so that who remembers what he read of
    -- these knows whether it is still so.
    ADD COLUMN revision bigint NOT NULL DEFAULT 0;

-- The versions of a range of numbers, in columns. The ranges of a volume do not overlap.
CREATE TABLE segment (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    volume_prefix text NOT NULL REFERENCES dpd_indexing_state,
    first bigint NOT NULL,
    last bigint NOT NULL,
    -- The versions in it, those that were superseded since included.
    products integer NOT NULL,
    -- All its pages.
    bytes bigint NOT NULL,
    -- What making it took in memory, by which it is known which can be made into one.
    weight bigint NOT NULL,
    -- The version of the encoding. One that is not the program's is made again.
    format integer NOT NULL
);
CREATE INDEX segment_first ON segment (volume_prefix, first);

-- The columns of the keys from the first to the last. They are compressed already, and read whole.
CREATE TABLE segment_page (
    segment bigint NOT NULL REFERENCES segment ON DELETE CASCADE,
    first_key integer NOT NULL,
    last_key integer NOT NULL,
    bytes bytea NOT NULL,
    PRIMARY KEY (segment, first_key)
);
ALTER TABLE segment_page ALTER COLUMN bytes SET STORAGE EXTERNAL;

-- The versions that are no more, but may still be in a segment, and when each ceased to be. It has no foreign key, which
-- would be checked row by row; one place in the code writes it.
CREATE TABLE superseded (
    volume_prefix text NOT NULL,
    number bigint NOT NULL,
    at bigint NOT NULL DEFAULT nextval('product_number'),
    PRIMARY KEY (volume_prefix, at)
);
CREATE UNIQUE INDEX superseded_number ON superseded (volume_prefix, number);

DROP TABLE leaf;
