#!/bin/sh
# Builds join.wasm from join.c.
#
#   examples/hash-join/build.sh           builds join.wasm examples/hash-join/build.sh --check
#   builds it elsewhere and compares it with the join.wasm that is here
set -eu

# A reactor has no main: its exports are called after _initialize.
exec "$(dirname "$0")/../support/build.sh" hash-join join "${1-}" \
  -target wasm32-wasi -mexec-model=reactor -O2 -Wl,-z,stack-size=65536
