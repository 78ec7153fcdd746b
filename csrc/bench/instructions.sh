#!/bin/sh
# instructions.sh BUILD [KEYS]: instructions of each call, counted by callgrind: tables with 4-byte keys and values (for a
# batch, of each key), queues (of each item). A regression shows here on the noisiest machine. Run by: make instructions
build=$1
keys=${2:-150000}
if ! command -v valgrind >/dev/null; then
    echo "instructions: valgrind is not installed; nothing counted"
    exit 0
fi
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
for program in 'instructions variable' 'instructions fixed' instructions_queue; do
    valgrind --tool=callgrind --callgrind-out-file="$dir/out" --collect-atstart=no --toggle-collect='loop_*' \
        "$build/bench/"$program "$keys" >"$dir/loops" 2>"$dir/log" || {
        cat "$dir/log"
        exit 1
    }
    callgrind_annotate --inclusive=yes --threshold=100 "$dir/out" >"$dir/costs" || exit 1
    # First the costs: "12,345 (..%)  file:loop_name [object]"; then "name operations". A batch's own loop counts.
    awk 'FNR == NR {
             gsub(",", "", $1)
             if (match($0, /:loop_[a-z_0-9]*/)) cost[substr($0, RSTART + 6, RLENGTH - 6)] = $1
             next
         }
         /^#/ {print; next}
         $1 == "empty" {loop = cost["empty"] / $2; next}
         {printf "%-20s %8.1f\n", $1, cost[$1] / $2 - ($1 ~ /^batch/ ? 0 : loop)}' "$dir/costs" "$dir/loops"
done
