//! Compiles the protocol with a compiler written in Rust, so that a build needs no `protoc`.

use std::error::Error;

const PROTOS: [&str; 4] = [
    "ringward/v1/types.proto",
    "ringward/v1/agent.proto",
    "ringward/v1/admin.proto",
    "ringward/v1/overview.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    for proto in PROTOS {
        println!("cargo::rerun-if-changed={proto}");
    }
    let files = protox::compile(PROTOS, ["."])?;
    tonic_prost_build::configure()
        .btree_map(".")
        .codec_path("crate::codec::Codec")
        .compile_fds(files)?;
    Ok(())
}
