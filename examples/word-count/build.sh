#!/bin/sh
# Builds words.wasm from words.c.
#
#   examples/word-count/build.sh           builds words.wasm
#   examples/word-count/build.sh --check   builds it elsewhere and compares it with the words.wasm that is here
set -eu

case "${1-}" in
  '' | --check) ;;
  *)
    echo "usage: $0 [--check]" >&2
    exit 2
    ;;
esac

cd "$(dirname "$0")"
built=$(cd ../.. && pwd)/target/word-count
mkdir -p "$built"

# A reactor has no main: its exports are called after _initialize.
../../guest/zig.sh cc -target wasm32-wasi -mexec-model=reactor -std=c11 -Wall -Wextra -Werror -O2 -s \
  -Wl,-z,stack-size=65536 -o "$built/words.wasm" words.c

if [ "${1-}" = --check ]; then
  if ! cmp words.wasm "$built/words.wasm"; then
    echo 'words.wasm is not what words.c compiles to: run examples/word-count/build.sh' >&2
    exit 1
  fi
  echo 'words.wasm is what words.c compiles to'
else
  install -m 644 "$built/words.wasm" words.wasm
  echo "words.wasm: $(wc -c <words.wasm) bytes"
fi
