#!/bin/sh
# Builds aggregate.wasm from aggregate.c.
#
#   examples/aggregate/build.sh           builds aggregate.wasm
#   examples/aggregate/build.sh --check   builds it elsewhere and compares it with the aggregate.wasm that is here
set -eu

case "${1-}" in
  '' | --check) ;;
  *)
    echo "usage: $0 [--check]" >&2
    exit 2
    ;;
esac

cd "$(dirname "$0")"
built=$(cd ../.. && pwd)/target/aggregate
mkdir -p "$built"

# No C library. The host makes the memory, so that a window stands in it before the module starts.
../../guest/zig.sh cc -target wasm32-freestanding -nostdlib -std=c11 -Wall -Wextra -Werror -O2 -s \
  -Wl,--no-entry -Wl,--import-memory -Wl,-z,stack-size=16384 -o "$built/aggregate.wasm" aggregate.c

if [ "${1-}" = --check ]; then
  if ! cmp aggregate.wasm "$built/aggregate.wasm"; then
    echo 'aggregate.wasm is not what aggregate.c compiles to: run examples/aggregate/build.sh' >&2
    exit 1
  fi
  echo 'aggregate.wasm is what aggregate.c compiles to'
else
  install -m 644 "$built/aggregate.wasm" aggregate.wasm
  echo "aggregate.wasm: $(wc -c <aggregate.wasm) bytes"
fi
