#!/bin/sh
# Builds words.wasm from words.c.
#
#   examples/c-module/build.sh            builds words.wasm here
#   examples/c-module/build.sh --check    builds it elsewhere and compares it with words.wasm
set -eu

# A reactor has no main: the host calls _initialize, then its exports. The default stack is 16
# MiB.
exec "$(dirname "$0")/../support/build.sh" c-module words "${1-}" \
  -target wasm32-wasi -mexec-model=reactor -Os -Wl,--export=malloc -Wl,--export=free -Wl,-z,stack-size=131072
