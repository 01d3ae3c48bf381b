#!/bin/sh
# Builds aggregate.wasm from aggregate.c.
#
#   examples/aggregate/build.sh            builds aggregate.wasm here
#   examples/aggregate/build.sh --check    builds it elsewhere and compares it with aggregate.wasm
set -eu

# No C library. The host makes the memory, so that it can open a window before the module starts.
exec "$(dirname "$0")/../support/build.sh" aggregate aggregate "${1-}" \
  -target wasm32-freestanding -nostdlib -O2 -Wl,--no-entry -Wl,--import-memory -Wl,-z,stack-size=16384
