//! The table of the Data Lifecycle Manager, made from its description with the types that it has.

use crate::postgres::Database;
use serde_json::Value;

/// The schema and the types.
const SCHEMA: &str = "
    CREATE SCHEMA dlm;
    CREATE TYPE dlm.item_state AS ENUM ('INITIALISED', 'READY', 'CORRUPTED', 'EXPIRED', 'DELETED');
    CREATE TYPE dlm.phase_type AS ENUM ('GAS', 'LIQUID', 'SOLID', 'PLASMA');
    CREATE TYPE dlm.checksum_method AS ENUM ('none', 'adler32', 'crc32', 'md5', 'sha256');
";

/// The table.
const TABLE: &str = "
    CREATE TABLE dlm.data_item (
        uid uuid PRIMARY KEY DEFAULT gen_random_uuid(), oid uuid, item_version integer DEFAULT 1, item_name varchar,
        uri varchar, item_type varchar DEFAULT 'file', item_format varchar DEFAULT 'unknown',
        item_state dlm.item_state DEFAULT 'INITIALISED', uid_phase dlm.phase_type DEFAULT 'GAS',
        oid_phase dlm.phase_type DEFAULT 'GAS', uid_creation timestamp without time zone DEFAULT now(),
        uid_expiration timestamp without time zone DEFAULT now() + interval '1 day', item_size integer,
        item_checksum varchar, checksum_method dlm.checksum_method DEFAULT 'none', expired boolean DEFAULT false,
        deleted boolean DEFAULT false, storage_id uuid, metadata jsonb
    );
";

/// Makes it.
pub fn create(database: &Database) {
    database.execute(&format!("{SCHEMA}{TABLE}"));
}

/// Adds an item and gives its uid.
///
/// # Panics
/// When that is not done.
pub fn add(database: &Database, name: &str, metadata: Option<&Value>) -> String {
    let metadata = metadata.map_or("NULL".to_owned(), |json| format!("'{}'", json.to_string().replace('\'', "''")));
    database.execute(&format!(
        "INSERT INTO dlm.data_item (item_name, uri, item_state, item_size, metadata) \
         VALUES ('{name}', 'store/{name}', 'READY', 2048, {metadata})"
    ));
    let uid = database.value(&format!("SELECT uid FROM dlm.data_item WHERE item_name = '{name}'"));
    uid.as_str().expect("a uid").to_owned()
}
