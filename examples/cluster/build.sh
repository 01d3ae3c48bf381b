#!/bin/sh
# Builds module.wasm from module.c.
#
#   examples/cluster/build.sh            builds module.wasm here
#   examples/cluster/build.sh --check    builds it elsewhere and compares it with module.wasm
set -eu

exec "$(dirname "$0")/../support/build.sh" cluster module "${1-}" \
  -target wasm32-freestanding -nostdlib -O2 -Wl,--no-entry -Wl,--import-memory -Wl,-z,stack-size=16384
