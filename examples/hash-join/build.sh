#!/bin/sh
# Builds join.wasm from join.c.
#
#   examples/hash-join/build.sh            builds join.wasm here
#   examples/hash-join/build.sh --check    builds it elsewhere and compares it with join.wasm
set -eu

# A reactor has no main: the host calls _initialize, then its exports.
exec "$(dirname "$0")/../support/build.sh" hash-join join "${1-}" \
  -target wasm32-wasi -mexec-model=reactor -O2 -Wl,-z,stack-size=65536
