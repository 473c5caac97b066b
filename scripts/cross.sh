#!/usr/bin/env bash
# The same bits everywhere: builds the digest suite for every target, runs it, and asks for one digest.
#   scripts/cross.sh [x86] [wasm] [aarch64] [riscv64]     default: all
# A target that rustup cannot add is built by the toolchain that HALLMARK_CROSS_TOOLCHAIN names, if it is there.
set -euo pipefail
cd "$(dirname "$0")/.."
toolchain=${HALLMARK_CROSS_TOOLCHAIN:-../shared/tools/cross-toolchain}
[[ $toolchain = /* ]] || toolchain=$PWD/$toolchain
out=${CARGO_TARGET_DIR:-target}
say() { printf 'cross: %s\n' "$*" >&2; }
results=$(mktemp)
trap 'rm -f "$results"' EXIT

# has TARGET: whether this toolchain builds for it, after asking rustup once.
has() {
  [[ -d $(rustc --print target-libdir --target "$1" 2>/dev/null) ]] || rustup target add "$1" >/dev/null 2>&1
}

# build TARGET ARG...: cargo build for TARGET; sets `dir` to where the result lies.
build() {
  local target=$1
  shift
  if has "$target"; then
    # Another architecture needs its linker, which Debian calls by the target's name without the vendor.
    local gcc=${target/gc-unknown/}
    gcc=${gcc/-unknown/}-gcc
    if [[ $target = *-linux-gnu && $target != "$(uname -m)"-* ]]; then
      command -v "$gcc" >/dev/null || apt-get install -y -qq "gcc-${gcc%-gcc}" >/dev/null 2>&1 ||
        { say "$target: needs the linker $gcc"; exit 1; }
      local name=${target^^}
      export "CARGO_TARGET_${name//-/_}_LINKER=$gcc"
    fi
    cargo build --release --quiet --locked --target "$target" "$@"
    dir=$out/$target/release
  elif [[ -x $toolchain ]]; then
    say "$target: rustup has no target here, using $toolchain"
    "$toolchain" cargo build --release --quiet --locked --target "$target" "$@"
    dir=$out/cross/$target/release
  else
    say "$target: neither rustup nor $toolchain has this target"
    exit 1
  fi
}

record() { tee -a "$results"; }

x86() {
  cargo build --release --quiet --locked -p hallmark-engine --example digest
  local isas=portable
  [[ $(uname -m) = x86_64 ]] && grep -q avx2 /proc/cpuinfo && isas="avx2 $isas"
  [[ $(uname -m) = x86_64 ]] && grep -q avx512bw /proc/cpuinfo && isas="avx512 $isas"
  [[ $(uname -m) = aarch64 ]] && isas="neon $isas"
  for isa in $isas; do
    for threads in 1 2 4; do
      "$out/release/examples/digest" --isa "$isa" --threads "$threads" | record
    done
    # Answers of 1,000 tokens, alone, in company, with and without shared prefixes: a digest of their own.
    # Emulated multiply-adds are slow: the portable path does it once.
    local counts='1 2'
    [[ $isa != portable ]] || counts=2
    for threads in $counts; do
      local answers
      answers=$("$out/release/examples/digest" --isa "$isa" --threads "$threads" --suite decoders)
      say "answers of 1,000 tokens: $answers"
      [[ ${answers%% *} = "$(cat vectors/llm/digest.txt)" ]] || { say "not the one of vectors/llm/digest.txt"; exit 1; }
    done
  done
}

wasm() {
  # The pure crates need nothing of a platform; the build is the proof.
  build wasm32-unknown-unknown --lib -p hallmark-receipt -p hallmark-model -p hallmark-attestation -p hallmark-verdict -p hallmark-proof -p hallmark-engine
  if cargo tree --locked --target wasm32-unknown-unknown -e normal -p hallmark-engine -p hallmark-verdict -p hallmark-proof --prefix none |
    grep -E '^(getrandom|wasm-bindgen) '; then
    say "a pure crate depends on its platform"
    exit 1
  fi
  build wasm32-unknown-unknown -p hallmark-engine --example digest_wasm
  node scripts/digest-wasm.mjs "$dir/examples/digest_wasm.wasm" | record
}

# emulated TARGET RUN PREFIX
emulated() {
  local arch=${1%%-*}
  arch=${arch/gc/}
  build "$1" -p hallmark-engine --example digest
  if [[ $(uname -m) = "$arch" ]]; then
    "$dir/examples/digest" | record
  elif command -v "qemu-$arch" >/dev/null && [[ -d /usr/$arch-linux-gnu ]]; then
    "qemu-$arch" -L "/usr/$arch-linux-gnu" "$dir/examples/digest" | record
  else
    "$toolchain" "run-$arch" "$dir/examples/digest" | record
  fi
}

[[ $# -gt 0 ]] || set -- x86 wasm aarch64 riscv64
for target in "$@"; do
  case $target in
    x86 | wasm) "$target" ;;
    aarch64) emulated aarch64-unknown-linux-gnu ;;
    riscv64) emulated riscv64gc-unknown-linux-gnu ;;
    *) say "unknown target $target: x86, wasm, aarch64, riscv64"; exit 2 ;;
  esac
done

golden=vectors/engine-digest.txt
count=$(wc -l <"$results")
differing=$(cut -d' ' -f1 "$results" | sort -u | wc -l)
if [[ $differing != 1 || $(cut -d' ' -f1 "$results" | head -1) != "$(cat "$golden")" ]]; then
  say "digests differ (recorded in $golden: $(cat "$golden"))"
  exit 1
fi
say "$count runs, one digest, the recorded one"
