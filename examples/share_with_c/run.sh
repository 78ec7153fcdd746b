#!/usr/bin/env bash
# Installs the C library into a temporary folder, builds peer.c against it with pkg-config (shared and static),
# and lets the C and the Rust program write, read and count in one table. Exit code 0: all as expected.
set -euo pipefail
cd "$(dirname "$0")/../.."

work=$(mktemp -d)
shm=$(mktemp -d -p /dev/shm 2>/dev/null || mktemp -d)
trap 'rm -rf "$work" "$shm"' EXIT
table=$shm/both.shf
n=${SHF_COUNT:-200000}

make -s -C csrc install PREFIX="$work/usr"
export PKG_CONFIG_PATH=$work/usr/lib/pkgconfig
read -ra flags <<<"$(pkg-config --cflags --libs shf)"
read -ra static <<<"$(pkg-config --cflags shf)"
read -ra private <<<"$(pkg-config --static --libs-only-other shf)"
cc=${CC:-cc}
"$cc" -std=c11 -Wall -Wextra -O2 examples/share_with_c/peer.c "${flags[@]}" -Wl,-rpath,"$work/usr/lib" -o "$work/peer"
"$cc" -std=c11 -Wall -Wextra -O2 examples/share_with_c/peer.c "${static[@]}" "$work/usr/lib/libshf.a" "${private[@]}" -pthread -o "$work/peer-static"
if command -v c++ >/dev/null; then # the header is also C++
    printf '#include <shf.h>\nint main() { return shf_version()[0] == 0; }\n' >"$work/header.cpp"
    c++ -Wall -Wextra "$work/header.cpp" "${flags[@]}" -Wl,-rpath,"$work/usr/lib" -o "$work/header" && "$work/header"
fi

cargo build --quiet --release --example share_with_c
rust=${CARGO_TARGET_DIR:-target}/release/examples/share_with_c

"$rust" write "$table"          # Rust creates and writes
"$work/peer" read "$table"      # C reads
"$work/peer" write "$table"     # C writes
"$rust" read "$table"           # Rust reads
"$work/peer" count "$table" "$n" & first=$!
"$work/peer-static" count "$table" "$n" & second=$!
"$rust" count "$table" "$n"     # three programs at once
wait "$first"
wait "$second"
"$rust" verify "$table" $((3 * n))
rm "$table"
"$work/peer-static" write "$table" # C creates
"$rust" read "$table"
echo "share_with_c: both directions agree"
