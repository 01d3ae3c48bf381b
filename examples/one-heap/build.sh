#!/bin/sh
# Builds the heap and the three programs.
#
#   examples/one-heap/build.sh            builds them here
#   examples/one-heap/build.sh --check    builds them elsewhere and compares
set -eu

build=$(dirname "$0")/../support/build.sh

# The heap has a fixed place: the start of the memory, with a stack of its own below its data.
"$build" one-heap heap "${1-}" \
  -target wasm32-wasi -mexec-model=reactor -Os -Wl,--import-memory -Wl,-z,stack-size=16384

# The programs have none: they are shared libraries, as WebAssembly's tool conventions have them,
# and import where their data and their stack are. Node.js 20 can't add in a constant expression.
for program in select group report; do
  "$build" one-heap "$program" "${1-}" \
    -target wasm32-freestanding -mcpu=generic-extended_const -fPIC -shared -nostdlib -O2 -Wl,-w
done
