#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# What recovery costs: put and get of the same program, with intents and with intents compiled out, A B B A.
#     make -C csrc recovery [KEYS=10000000] [ROUNDS=5]
# Prints for each operation the medians in M ops/s and the price in per cent. $1 = build folder.
set -eu
cd "$(dirname "$0")/.."
build=$1 keys=${KEYS:-10000000} rounds=${ROUNDS:-5}
out=$(mktemp)
trap 'rm -f "$out"' EXIT
for fixed in 0 1; do
    for op in put get; do
        : >"$out"
        i=0
        while [ $i -lt "$rounds" ]; do
            for with in bench bench-bare bench-bare bench; do
                "$build/$with/table" --keys "$keys" --fixed $fixed --op $op --loops 1 |
                    awk -v w=$with -v op=$op '$1 == op {print w, $2}' >>"$out"
            done
            i=$((i + 1))
        done
        sort -k1,1 -k2,2n "$out" | awk -v op=$op -v mode=$([ $fixed = 1 ] && echo fixed || echo variable) '
            {n[$1]++; v[$1, n[$1]] = $2}
            function median(k) {return (v[k, int((n[k] + 1) / 2)] + v[k, int(n[k] / 2) + 1]) / 2}
            END {a = median("bench"); b = median("bench-bare")
                printf "%-8s %-4s with recovery %6.2f  without %6.2f M/s  price %5.1f %%\n", mode, op, a, b, 100 * (1 - a / b)}'
    done
done
