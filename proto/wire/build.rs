//! Compiles the protocol with a compiler written in Rust, so that a build needs no `protoc`, and
//! refuses a call that does not declare what its caller must hold.

use protox::prost_reflect::{DescriptorPool, MethodDescriptor};
use std::error::Error;
use std::fmt::Write;
use std::path::Path;

const PROTOS: [&str; 6] = [
    "ringward/v1/options.proto",
    "ringward/v1/types.proto",
    "ringward/v1/agent.proto",
    "ringward/v1/admin.proto",
    "ringward/v1/overview.proto",
    "ringward/v1/people.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    for proto in PROTOS {
        println!("cargo::rerun-if-changed={proto}");
    }
    let mut compiler = protox::Compiler::new(["."])?;
    compiler
        .include_source_info(true)
        .include_imports(true)
        .open_files(PROTOS)?;
    let calls = permissions(&compiler.descriptor_pool())?;
    let out = std::env::var("OUT_DIR")?;
    std::fs::write(Path::new(&out).join("permissions.rs"), calls)?;
    let mut files = compiler.file_descriptor_set();
    // Known to the generator, and nothing of it is used beyond the options read above.
    files.file.retain(|file| file.package() == "ringward.v1");
    tonic_prost_build::configure()
        .btree_map(".")
        .codec_path("crate::codec::Codec")
        .compile_fds(files)?;
    Ok(())
}

/// A table of every call and what it needs, as Rust source.
fn permissions(pool: &DescriptorPool) -> Result<String, Box<dyn Error>> {
    let mut table = String::from("&[\n");
    let ours = |service: &protox::prost_reflect::ServiceDescriptor| {
        service.parent_file().package_name() == "ringward.v1"
    };
    for service in pool.services().filter(ours) {
        for method in service.methods() {
            let (path, needs) = (path(&method), permission(pool, &method)?);
            writeln!(table, "    ({path:?}, pb::Permission::{needs}),")?;
        }
    }
    table.push(']');
    Ok(table)
}

fn path(method: &MethodDescriptor) -> String {
    let service = method.parent_service();
    format!("/{}/{}", service.full_name(), method.name())
}

/// The variant's name, as the generated enum spells it.
fn permission(pool: &DescriptorPool, method: &MethodDescriptor) -> Result<String, Box<dyn Error>> {
    let option = pool
        .get_extension_by_name("ringward.v1.permission")
        .ok_or("options.proto declares no `permission`")?;
    let kinds = pool
        .get_enum_by_name("ringward.v1.Permission")
        .ok_or("options.proto declares no `Permission`")?;
    let options = method.options();
    let number = options.get_extension(&option).as_enum_number();
    let name = number
        .filter(|number| *number != 0 && options.has_extension(&option))
        .and_then(|number| kinds.get_value(number))
        .ok_or_else(|| {
            format!(
                "{} declares no permission: write `option (permission) = PERMISSION_…;` into its \
                 braces (see ringward/v1/options.proto)",
                path(method)
            )
        })?;
    let mut camel = String::new();
    for word in name.name().trim_start_matches("PERMISSION_").split('_') {
        let (first, rest) = word.split_at(1);
        camel.push_str(first);
        camel.push_str(&rest.to_ascii_lowercase());
    }
    Ok(camel)
}
