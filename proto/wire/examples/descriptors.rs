//! Writes the protocol's descriptors (a `FileDescriptorSet`) to its output: other languages generate
//! their types from them without a `protoc`.

use prost::Message;
use std::error::Error;
use std::io::Write;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(root.join("ringward/v1"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "proto") {
            files.push(path);
        }
    }
    files.sort();
    let descriptors = protox::compile(files, [root])?;
    std::io::stdout().write_all(&descriptors.encode_to_vec())?;
    Ok(())
}
