#!/bin/sh
# Builds words.wasm from words.c.
#
#   examples/word-count/build.sh           builds words.wasm examples/word-count/build.sh --check
#   builds it elsewhere and compares it with the words.wasm that is here
set -eu

# A reactor has no main: its exports are called after _initialize.
exec "$(dirname "$0")/../support/build.sh" word-count words "${1-}" \
  -target wasm32-wasi -mexec-model=reactor -O2 -Wl,-z,stack-size=65536
