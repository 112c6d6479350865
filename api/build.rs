//! The OpenAPI document is written as YAML for people and built in as JSON, so that the programs carry no YAML reader beside
//! the one for metadata files, and a document that does not read fails the build.

use std::{env, error::Error, fs, path::Path};

const DOCUMENT: &str = "openapi.yaml";

#[expect(clippy::disallowed_methods, reason = "cargo tells a build script its folder by the environment")]
fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={DOCUMENT}");
    let document: serde_json::Value = serde_yaml::from_str(&fs::read_to_string(DOCUMENT)?)?;
    let folder = env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?;
    fs::write(Path::new(&folder).join("openapi.json"), document.to_string())?;
    Ok(())
}
