#!/bin/sh
# Runs zig, which comes from PyPI: guest/zig.sh cc ... is clang for every Wasm target.
#
# Needs python3 with venv. All that it makes stays in target/zig.
set -eu

zig_version=0.17.0

work=$(cd "$(dirname "$0")/.." && pwd)/target/zig
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

export ZIG_GLOBAL_CACHE_DIR="$work/cache" ZIG_LOCAL_CACHE_DIR="$work/cache"
exec "$python" -m ziglang "$@"
