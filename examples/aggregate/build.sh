#!/bin/sh
# Builds aggregate.wasm from aggregate.c.
#
#   examples/aggregate/build.sh           builds aggregate.wasm examples/aggregate/build.sh --check
#   builds it elsewhere and compares it with the aggregate.wasm that is here
set -eu

# No C library. The host makes the memory, so that a window is in it before the module starts.
exec "$(dirname "$0")/../support/build.sh" aggregate aggregate "${1-}" \
  -target wasm32-freestanding -nostdlib -O2 -Wl,--no-entry -Wl,--import-memory -Wl,-z,stack-size=16384
