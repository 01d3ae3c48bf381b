#!/bin/sh
# Builds words.wasm from words.c.
#
#   examples/word-count/build.sh            builds words.wasm here
#   examples/word-count/build.sh --check    builds it elsewhere and compares it with words.wasm
set -eu

# A reactor has no main: the host calls _initialize, then its exports.
exec "$(dirname "$0")/../support/build.sh" word-count words "${1-}" \
  -target wasm32-wasi -mexec-model=reactor -O2 -Wl,-z,stack-size=65536
