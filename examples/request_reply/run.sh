#!/usr/bin/env bash
# Installs the C library into a temporary folder, builds client.c against it with pkg-config, and asks the Rust service
# from C and from Rust; the service is killed while it works on a request, and while it is asked at full rate, and started
# again each time. Exit code 0: every request was answered, rightly, and no item is missing.
set -euo pipefail
cd "$(dirname "$0")/../.."

work=$(mktemp -d)
shm=$(mktemp -d -p /dev/shm 2>/dev/null || mktemp -d)
service=
trap '[ -z "$service" ] || kill -9 "$service" 2>/dev/null || true; rm -rf "$work" "$shm"' EXIT
set=$shm/counting.shf
n=${SHF_COUNT:-100000}
kills=${SHF_KILLS:-10}

make -s -C csrc install PREFIX="$work/usr"
export PKG_CONFIG_PATH=$work/usr/lib/pkgconfig
read -ra flags <<<"$(pkg-config --cflags --libs shf)"
"${CC:-cc}" -std=c11 -Wall -Wextra -O2 examples/request_reply/client.c "${flags[@]}" -Wl,-rpath,"$work/usr/lib" -o "$work/client"
cargo build --quiet --release --example request_reply
rust=${CARGO_TARGET_DIR:-target}/release/examples/request_reply

# wait_for TEXT: until the service has said so.
wait_for() {
    local i
    for ((i = 0; i < 3000; i++)); do
        ! grep -q "$1" "$work/said" || return 0
        sleep 0.01
    done
    echo "request_reply: the service has not said in 30 s: $1" >&2
    return 1
}
start() {
    "$rust" serve "$set" >"$work/said" &
    service=$!
    wait_for ready
}
kill_it() {
    kill -9 "$service"
    wait "$service" 2>/dev/null || true # it says Killed
    service=
}

start
"$work/client" "$set" first "$n" # C asks
"$rust" ask "$set" second "$n"   # Rust asks

"$work/client" "$set" patient 1 500 >"$work/patient" & client=$!
wait_for 'begins with a long request, for the 1. time'
kill_it # with the request in its hands; the client waits
start
wait "$client"
cat "$work/patient"
grep -q 'was begun 2 times' "$work/patient"

"$work/client" "$set" first "$n" & first=$! # all at once, and the service is killed again and again
"$rust" ask "$set" second "$n" & second=$!
for ((i = 0; i < kills; i++)); do
    sleep 0.1
    kill_it
    start
done
wait "$first"
wait "$second"

"$work/client" "$set" unlucky 1000000000 & client=$!
sleep 0.1
kill -9 "$client" # a client dies: what it had is free again, or in its queue
wait "$client" 2>/dev/null || true
"$work/client" "$set" unlucky 10
kill_it
"$rust" check "$set"
echo "# total: request_reply: $((4 * n + 11)) requests answered, the service killed $((kills + 1)) times, a client once; 0 lost"
