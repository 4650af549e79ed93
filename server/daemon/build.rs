//! The dashboard is embedded: when its built files change, the server is built anew. The folder is
//! always there (it holds at least `.keep`); built files come from `cargo xtask dashboard`.

fn main() {
    println!("cargo:rerun-if-changed=../dashboard/dist");
}
