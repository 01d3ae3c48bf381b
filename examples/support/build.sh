#!/bin/sh
# Compiles an example's C module with zig. The examples' own build.sh call it:
#
#   examples/support/build.sh DIRECTORY NAME '' FLAGS...         builds examples/DIRECTORY/NAME.wasm
#   examples/support/build.sh DIRECTORY NAME --check FLAGS...    builds it elsewhere and compares
set -eu

directory=$1
name=$2
mode=$3
shift 3

case "$mode" in
  '' | --check) ;;
  *)
    echo "usage: examples/$directory/build.sh [--check]" >&2
    exit 2
    ;;
esac

root=$(cd "$(dirname "$0")/../.." && pwd)
built=$root/target/$directory
mkdir -p "$built"
cd "$root/examples/$directory"

# -s omits names and debug information.
"$root/guest/zig.sh" cc -std=c11 -Wall -Wextra -Werror -s "$@" -o "$built/$name.wasm" "$name.c"

if [ "$mode" = --check ]; then
  if ! cmp "$name.wasm" "$built/$name.wasm"; then
    echo "$name.wasm is not what $name.c compiles to: run examples/$directory/build.sh" >&2
    exit 1
  fi
  echo "$name.wasm is what $name.c compiles to"
else
  install -m 644 "$built/$name.wasm" "$name.wasm"
  echo "$name.wasm: $(wc -c <"$name.wasm") bytes"
fi
