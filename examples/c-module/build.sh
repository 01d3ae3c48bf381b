#!/bin/sh
# Builds words.wasm from words.c.
#
#   examples/c-module/build.sh           builds words.wasm examples/c-module/build.sh --check
#   builds it elsewhere and compares it with the words.wasm that is here
set -eu

# A reactor has no main: its exports are called after _initialize. The stack would be 16 MiB without
# a size.
exec "$(dirname "$0")/../support/build.sh" c-module words "${1-}" \
  -target wasm32-wasi -mexec-model=reactor -Os -Wl,--export=malloc -Wl,--export=free -Wl,-z,stack-size=131072
