#!/bin/sh
# instructions.sh BUILD [KEYS]: instructions of each call, 4-byte keys and values, counted by callgrind; for a batch, of
# each key. A regression shows here on the noisiest machine. Run by: make instructions
build=$1
keys=${2:-150000}
if ! command -v valgrind >/dev/null; then
    echo "instructions: valgrind is not installed; nothing counted"
    exit 0
fi
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
for lengths in variable fixed; do
    valgrind --tool=callgrind --callgrind-out-file="$dir/out" --collect-atstart=no --toggle-collect='loop_*' \
        "$build/bench/instructions" $lengths "$keys" >"$dir/loops" 2>"$dir/log" || {
        cat "$dir/log"
        exit 1
    }
    callgrind_annotate --inclusive=yes --threshold=100 "$dir/out" >"$dir/costs" || exit 1
    # First the costs: "12,345 (..%)  file:loop_name [object]"; then "name operations". A batch's own loop counts.
    awk 'FNR == NR {
             gsub(",", "", $1)
             if (match($0, /:loop_[a-z_]*/)) cost[substr($0, RSTART + 6, RLENGTH - 6)] = $1
             next
         }
         /^#/ {print; next}
         $1 == "empty" {loop = cost["empty"] / $2; next}
         {printf "%-20s %8.1f\n", $1, cost[$1] / $2 - ($1 ~ /^batch/ ? 0 : loop)}' "$dir/costs" "$dir/loops"
done
