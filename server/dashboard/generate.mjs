// Generates src/gen from a FileDescriptorSet on standard input, as `protoc` would with protoc-gen-es:
// cargo run --quiet -p ringward-wire --example descriptors | npm run generate
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { CodeGeneratorRequestSchema, CodeGeneratorResponseSchema, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";

const OUT = "src/gen";
const { file: protoFile } = fromBinary(FileDescriptorSetSchema, readFileSync(0));
const fileToGenerate = protoFile.map((file) => file.name).filter((name) => name.startsWith("ringward/"));
const request = create(CodeGeneratorRequestSchema, { fileToGenerate, protoFile, parameter: "target=ts" });
const answer = execFileSync(process.execPath, ["node_modules/@bufbuild/protoc-gen-es/bin/protoc-gen-es"], {
  input: toBinary(CodeGeneratorRequestSchema, request),
  maxBuffer: 64 * 1024 * 1024,
});
const response = fromBinary(CodeGeneratorResponseSchema, answer);
if (response.error) throw new Error(response.error);
rmSync(OUT, { recursive: true, force: true });
for (const file of response.file) {
  mkdirSync(dirname(join(OUT, file.name)), { recursive: true });
  writeFileSync(join(OUT, file.name), file.content);
}
