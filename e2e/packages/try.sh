#!/bin/sh
# Installs the packages of a folder where there is neither a registry that has them nor a compiler,
# and runs the smoke script. For the images of CI.
#
#   e2e/packages/try.sh FOLDER
set -eu
packages=$1
smoke=$(dirname "$0")/../smoke/run.cjs
libc=gnu
if ls /lib/ld-musl-* >/dev/null 2>&1; then libc=musl; fi
arch=$(node -p process.arch)
mkdir -p try
cd try
echo '{ "private": true }' >package.json
npm install --no-audit --no-fund --omit=optional \
  "$packages/wasm-hostmap-linux-$arch-$libc-"*.tgz "$packages/wasm-hostmap-"[0-9]*.tgz
node "$smoke" node_modules/wasm-hostmap
