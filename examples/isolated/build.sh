#!/bin/sh
# Builds module.wasm from module.c.
#
#   examples/isolated/build.sh            builds module.wasm here
#   examples/isolated/build.sh --check    builds it elsewhere and compares it with module.wasm
set -eu

exec "$(dirname "$0")/../support/build.sh" isolated module "${1-}" \
  -target wasm32-freestanding -nostdlib -O2 -Wl,--no-entry -Wl,--import-memory -Wl,-z,stack-size=16384
