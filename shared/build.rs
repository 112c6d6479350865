//! A new migration must be embedded, though no source file changed.

fn main() {
    println!("cargo:rerun-if-changed=../migrations");
}
