//! Makes Rust of the protocol's files. Needs `protoc` in the path (`protobuf-compiler`).

fn main() -> std::io::Result<()> {
    let files =
        ["proto/omium/v1/values.proto", "proto/omium/v1/workers.proto", "proto/omium/v1/checkpoints.proto"];
    // Clients are made over any channel; which transport they use is theirs to say.
    tonic_prost_build::configure().build_transport(false).compile_protos(&files, &["proto"])
}
