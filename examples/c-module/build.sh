#!/bin/sh
# Builds words.wasm from words.c with the C compiler of zig, which comes from PyPI.
#
#   examples/c-module/build.sh           builds words.wasm
#   examples/c-module/build.sh --check   builds it elsewhere and compares it with the words.wasm that is here
#
# Needs python3 with venv. Everything it makes stays in target/c-module.
set -eu

zig_version=0.17.0

case "${1-}" in
  '' | --check) ;;
  *)
    echo "usage: $0 [--check]" >&2
    exit 2
    ;;
esac

cd "$(dirname "$0")"
work=$(cd ../.. && pwd)/target/c-module
venv=$work/venv-$zig_version
python=$venv/bin/python
mkdir -p "$work"

# The marker is written last, so a venv that was left half made is made again.
if [ ! -e "$venv/complete" ]; then
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$python" -m pip install --quiet --disable-pip-version-check "ziglang==$zig_version"
  touch "$venv/complete"
fi

export ZIG_GLOBAL_CACHE_DIR="$work/zig-cache" ZIG_LOCAL_CACHE_DIR="$work/zig-cache"

# A reactor has no main: its exports are called after _initialize. -s leaves out names and debug information. The
# stack would be 16 MiB without a size.
"$python" -m ziglang cc -target wasm32-wasi -mexec-model=reactor \
  -std=c11 -Wall -Wextra -Werror -Os -s \
  -Wl,--export=malloc -Wl,--export=free -Wl,-z,stack-size=131072 \
  -o "$work/words.wasm" words.c

if [ "${1-}" = --check ]; then
  if ! cmp words.wasm "$work/words.wasm"; then
    echo 'words.wasm is not what words.c compiles to: run examples/c-module/build.sh' >&2
    exit 1
  fi
  echo 'words.wasm is what words.c compiles to'
else
  install -m 644 "$work/words.wasm" words.wasm
  echo "words.wasm: $(wc -c <words.wasm) bytes"
fi
