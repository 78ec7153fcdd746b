#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# What recovery costs: the same programs with intents and with intents compiled out, A B B A: put and get of tables, and the
# cycle of queues between two processes.
#     make -C csrc recovery [KEYS=10000000] [ROUNDS=5] [WHAT="table queue"]
# Prints for each operation the medians in M ops/s and the price in per cent. $1 = build folder.
set -eu
cd "$(dirname "$0")/.."
build=$1 keys=${KEYS:-10000000} rounds=${ROUNDS:-5} what=${WHAT:-table queue}
out=$(mktemp)
trap 'rm -f "$out"' EXIT

# price LABEL NAME PROGRAM ARGUMENTS: of the line "NAME RATE ..." that the program prints.
price() {
    label=$1 name=$2 program=$3
    shift 3
    : >"$out"
    i=0
    while [ $i -lt "$rounds" ]; do
        for with in bench bench-bare bench-bare bench; do
            "$build/$with/$program" "$@" | awk -v w=$with -v op="$name" '$1 == op {print w, $2}' >>"$out"
        done
        i=$((i + 1))
    done
    sort -k1,1 -k2,2n "$out" | awk -v label="$label" '
        {n[$1]++; v[$1, n[$1]] = $2}
        function median(k) {return (v[k, int((n[k] + 1) / 2)] + v[k, int(n[k] / 2) + 1]) / 2}
        END {a = median("bench"); b = median("bench-bare")
            printf "%-20s with recovery %7.2f  without %7.2f M/s  price %5.1f %%\n", label, a, b, 100 * (1 - a / b)}'
}

for kind in $what; do
    case $kind in
    table)
        for fixed in 0 1; do
            for op in put get; do
                price "$([ $fixed = 1 ] && echo fixed || echo variable) $op" $op table --keys "$keys" --fixed $fixed --op $op --loops 1
            done
        done
        ;;
    queue)
        for batch in 1 16 64 1000; do
            price "cycle, batch $batch" cycle queue --batch $batch
        done
        ;;
    esac
done
