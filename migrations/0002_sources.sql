-- Two more sources beside the volume: flows of the SDP configuration database, and data items of the Data Lifecycle
-- Manager. What they bring to light are rows of `data_product` like any other, so that a search is still one statement.

-- Tables of these names that are not ours are kept under another.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['flow', 'flow_folder', 'flow_product', 'dlm_item']
    LOOP
        IF to_regclass(quote_ident(current_schema()) || '.' || quote_ident(name)) IS NOT NULL THEN
            EXECUTE format('ALTER TABLE %I.%I RENAME TO %I', current_schema(), name, name || '_before_0002');
            RAISE WARNING 'a table % was there before ours: it is % now', name, name || '_before_0002';
        END IF;
    END LOOP;
END
$$;

ALTER TABLE data_product
    -- What flows find the product by where none has its folder; NULL where none could.
    ADD COLUMN processing_block text COLLATE "C",
    -- The product's flows as rows show them, derived from `flow_product`; NULL where it has none.
    ADD COLUMN flows json;
CREATE INDEX data_product_processing_block ON data_product (volume_prefix, processing_block)
    WHERE processing_block IS NOT NULL;

-- Metadata that was ingested is in no file to be read anew. Ids of processing blocks have no capital letters, so the
-- leaf has them as they were written.
UPDATE data_product p SET processing_block = convert_from(l.value, 'UTF8')
FROM leaf l JOIN metadata_key k ON k.id = l.key
WHERE p.folder IS NULL AND l.product = p.id AND k.path = 'config.processing_block'
    AND encode(l.value, 'escape') ~ '^pb-[a-z0-9]{1,255}-[0-9]{8}-[a-z0-9]{1,255}$';

-- The flows of data products, as the configuration database has them. Texts in which U+0000 could be are escaped as
-- names of keys are.
CREATE TABLE flow (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    volume_prefix text NOT NULL REFERENCES dpd_indexing_state,
    name text COLLATE "C" NOT NULL,
    processing_block text COLLATE "C" NOT NULL,
    status text,
    -- That of its processing block.
    execution_block text,
    UNIQUE (volume_prefix, name)
);
CREATE INDEX flow_processing_block ON flow (volume_prefix, processing_block);

-- Where a flow's folder may be, seen from the storage path: the likeliest first.
CREATE TABLE flow_folder (
    flow bigint NOT NULL REFERENCES flow ON DELETE CASCADE,
    place integer NOT NULL,
    volume_prefix text NOT NULL,
    folder text COLLATE "C" NOT NULL,
    PRIMARY KEY (flow, place)
);
CREATE INDEX flow_folder_folder ON flow_folder (volume_prefix, folder);

-- Which products a flow is matched to. One that is matched to none has a row of its own among the products.
CREATE TABLE flow_product (
    flow bigint NOT NULL REFERENCES flow ON DELETE CASCADE,
    product bigint NOT NULL REFERENCES data_product ON DELETE CASCADE,
    PRIMARY KEY (flow, product)
);
CREATE INDEX flow_product_product ON flow_product (product);

-- The data items that carry metadata and are not deleted, each in the version that was read last.
CREATE TABLE dlm_item (
    volume_prefix text NOT NULL REFERENCES dpd_indexing_state,
    uid uuid NOT NULL,
    version text NOT NULL,
    -- Why it is no product, where it is none.
    error text,
    PRIMARY KEY (volume_prefix, uid)
);

ALTER TABLE dpd_indexing_state
    -- What the indexer publishes of these sources, as shared::status::Sdp and Dlm; NULL where it does not follow them.
    ADD COLUMN sdp json,
    ADD COLUMN dlm json;
