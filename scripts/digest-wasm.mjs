// Runs the digest suite's WebAssembly module, which imports nothing: node scripts/digest-wasm.mjs MODULE.wasm
import { readFileSync } from "node:fs";

const { instance } = await WebAssembly.instantiate(readFileSync(process.argv[2]), {});
const at = instance.exports.digest();
const text = new TextDecoder().decode(new Uint8Array(instance.exports.memory.buffer, at, 65));
if (text[0] !== "0") {
  console.error(`digest: ${text.slice(1).trim()}`);
  process.exit(1);
}
console.log(`${text.slice(1)}  wasm32 portable 1`);
