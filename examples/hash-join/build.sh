#!/bin/sh
# Builds join.wasm from join.c.
#
#   examples/hash-join/build.sh           builds join.wasm
#   examples/hash-join/build.sh --check   builds it elsewhere and compares it with the join.wasm that is here
set -eu

case "${1-}" in
  '' | --check) ;;
  *)
    echo "usage: $0 [--check]" >&2
    exit 2
    ;;
esac

cd "$(dirname "$0")"
built=$(cd ../.. && pwd)/target/hash-join
mkdir -p "$built"

# A reactor has no main: its exports are called after _initialize.
../../guest/zig.sh cc -target wasm32-wasi -mexec-model=reactor -std=c11 -Wall -Wextra -Werror -O2 -s \
  -Wl,-z,stack-size=65536 -o "$built/join.wasm" join.c

if [ "${1-}" = --check ]; then
  if ! cmp join.wasm "$built/join.wasm"; then
    echo 'join.wasm is not what join.c compiles to: run examples/hash-join/build.sh' >&2
    exit 1
  fi
  echo 'join.wasm is what join.c compiles to'
else
  install -m 644 "$built/join.wasm" join.wasm
  echo "join.wasm: $(wc -c <join.wasm) bytes"
fi
