#!/bin/sh
# Builds words.wasm from words.c with the C compiler of zig.
#
#   examples/c-module/build.sh           builds words.wasm
#   examples/c-module/build.sh --check   builds it elsewhere and compares it with the words.wasm that is here
set -eu

case "${1-}" in
  '' | --check) ;;
  *)
    echo "usage: $0 [--check]" >&2
    exit 2
    ;;
esac

cd "$(dirname "$0")"
work=$(cd ../.. && pwd)/target/c-module
mkdir -p "$work"

# A reactor has no main: its exports are called after _initialize. -s leaves out names and debug information. The
# stack would be 16 MiB without a size.
../../guest/zig.sh cc -target wasm32-wasi -mexec-model=reactor \
  -std=c11 -Wall -Wextra -Werror -Os -s \
  -Wl,--export=malloc -Wl,--export=free -Wl,-z,stack-size=131072 \
  -o "$work/words.wasm" words.c

if [ "${1-}" = --check ]; then
  if ! cmp words.wasm "$work/words.wasm"; then
    echo 'words.wasm is not what words.c compiles to: run examples/c-module/build.sh' >&2
    exit 1
  fi
  echo 'words.wasm is what words.c compiles to'
else
  install -m 644 "$work/words.wasm" words.wasm
  echo "words.wasm: $(wc -c <words.wasm) bytes"
fi
