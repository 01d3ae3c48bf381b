#!/bin/sh
# Builds the modules of 37-guest.slow.test.js: fixture.c for wasm32 and wasm64, fixture.rs for
# wasm32.
#
#   __test__/support/guest/build.sh            builds them here
#   __test__/support/guest/build.sh --check    builds them elsewhere and compares, and runs the
#                                              examples of guest/README.md
#
# The C modules must be identical. Rust's depend on the version of the compiler: if they differ, the
# test runs over the new ones. Needs python3 with venv and, for Rust, rustup, which adds the target;
# if it can't, Rust is skipped.
set -eu

case "${1-}" in
  '' | --check) ;;
  *)
    echo "usage: $0 [--check]" >&2
    exit 2
    ;;
esac

cd "$(dirname "$0")"
root=$(cd ../../.. && pwd)
built=$root/target/guest/fixtures
rm -rf "$built"
mkdir -p "$built"

# Valid as C++, too.
"$root/guest/zig.sh" c++ -target wasm32-freestanding -x c++ -std=c++11 -pedantic -Wall -Wextra -Werror \
  -c -o "$built/fixture.o" fixture.c
for bits in 32 64; do
  "$root/guest/zig.sh" cc -target "wasm$bits-freestanding" -nostdlib -std=c99 -pedantic -Wall -Wextra -Werror -O2 -s \
    -Wl,--no-entry -Wl,--import-memory -Wl,-z,stack-size=65536 -o "$built/c$bits.wasm" fixture.c
done

rust=yes
if rustup target add wasm32-unknown-unknown >"$built/rustup.log" 2>&1; then
  rustc --edition 2024 --target wasm32-unknown-unknown --crate-type cdylib -D warnings \
    -O -C panic=abort -C strip=symbols -C link-arg=--import-memory -C link-arg=-zstack-size=65536 \
    -o "$built/rust32.wasm" fixture.rs
else
  rust=no
  cat "$built/rustup.log" >&2
  echo 'rustup can not add wasm32-unknown-unknown: Rust is left out' >&2
  cp rust32.wasm "$built"
fi

# The example of this language in guest/README.md.
example() {
  sed -n "/^\`\`\`$1\$/,/^\`\`\`\$/p" "$root/guest/README.md" | sed '/^```/d'
}

# Runs the example of the host over the module in orders.wasm.
run_example() {
  example js >orders.mjs
  # Two orders of customer 7, 100 and 65536 cents, one of customer 8, and a part of one.
  printf '\7\0\0\0\144\0\0\0\10\0\0\0\1\0\0\0\7\0\0\0\0\0\1\0\7\0' >orders.bin
  printed=$(node orders.mjs)
  if [ "$printed" != 65636n ]; then
    echo "the example of guest/README.md in $1 printed '$printed'" >&2
    exit 1
  fi
}

if [ "${1-}" = --check ]; then
  mkdir "$built/example"
  (
    cd "$built/example"
    cp "$root/guest/hostmap.h" "$root/guest/hostmap.rs" .
    example c >orders.c
    "$root/guest/zig.sh" cc -target wasm32-freestanding -nostdlib -O2 -Wl,--no-entry -Wl,--import-memory \
      -o orders.wasm orders.c
    run_example C
    if [ $rust = yes ]; then
      example rust >orders.rs
      rustc --edition 2024 --target wasm32-unknown-unknown --crate-type cdylib -O -C link-arg=--import-memory \
        -o orders.wasm orders.rs
      run_example Rust
    fi
  )
  for bits in 32 64; do
    if ! cmp "c$bits.wasm" "$built/c$bits.wasm"; then
      echo "c$bits.wasm is not what fixture.c compiles to: run __test__/support/guest/build.sh" >&2
      exit 1
    fi
  done
  echo 'c32.wasm and c64.wasm are what fixture.c compiles to'
  if [ $rust = yes ] && ! cmp rust32.wasm "$built/rust32.wasm"; then
    echo "$(rustc --version) makes other bytes of fixture.rs: the test runs over them"
    cd "$root"
    HOSTMAP_GUEST_FIXTURES="$built" node node_modules/jest/bin/jest.js __test__/37-guest.slow.test.js
  fi
else
  install -m 644 "$built/c32.wasm" "$built/c64.wasm" "$built/rust32.wasm" .
  wc -c ./*.wasm
fi
