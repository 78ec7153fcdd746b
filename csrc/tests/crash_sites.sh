#!/bin/bash
# crash_sites.sh BUILD/flavour [program...]: runs the crash tests of that folder (all crash_* in it) and says at which stores of
# the engine's code nobody was killed, as file:line with the lines it was inlined into. 1 if one was reached and nobody died there
# at first; in repairs it is a matter of the sample.
# Never reached are those that only a damaged file leads to, two threads at once, or a file over 1 GiB.
# A store is the same one in all programs if its function and its place in it are. Needs nm, objdump, addr2line (binutils), x86-64.
# Last line: `# total: ...`. SHF_CRASH_*: as for the programs. SHF_CRASH_SITES=folder: the files that a former run has left
# there are used instead.
set -euo pipefail
folder=$1
shift
dir=${SHF_CRASH_SITES:-}
programs=("$@")
if [ ${#programs[@]} = 0 ]; then
    for p in "$folder"/crash_*; do [ -x "$p" ] && [ -f "$p" ] && programs+=("$(basename "$p")"); done
fi
if [ -z "$dir" ]; then
    dir=$(mktemp -d)
    trap 'rm -rf "$dir"' EXIT
    for p in "${programs[@]}"; do SHF_CRASH_SITES=$dir "$folder/$p" >"$dir/log" || { cat "$dir/log"; exit 1; }; done
fi
# Each call of shf__crash_point: "return address, function, place in it"; joined with what the program has written.
for p in "${programs[@]}"; do
    objdump -d --no-show-raw-insn "$folder/$p" | awk '
        /^[0-9a-f]+ <.*>:$/ { f = $2; gsub(/[<>:]/, "", f); start = $1 }
        last { sub(":", "", $1); print $1, f, start }
        { last = /call .*<shf__crash_point>/ }' | while read -r at f start; do
        printf '%#x %s %d\n' $((16#$at)) "$f" $((16#$at - 16#$start))
    done >"$dir/calls.$p"
    awk -v p="$p" 'FNR == NR { r[$1] = $2; k[$1] = $3; next } { print $2 "+" $3, r[$1] + 0, k[$1] + 0, p, $1 }' "$dir/$p" "$dir/calls.$p"
done | sort >"$dir/all"
awk '{ r[$1] = or2(r[$1], $2); k[$1] = or2(k[$1], $3); p[$1] = $4; a[$1] = $5 }
    function or2(x, y) { return (x % 2 || y % 2) + 2 * (int(x / 2) || int(y / 2)) }
    END { for (s in r) print s, r[s], k[s], p[s], a[s] }' "$dir/all" | sort >"$dir/sites"
# The engine's alone: the outermost line is not a test's.
engine() { addr2line -i -e "$folder/$1" "$(printf '%#x' $(($2 - 1)))" | tail -n 1 | grep -q '/\?src/[a-z_]*\.[ch]:'; }
place() { # of the call before a return address
    addr2line -i -e "$folder/$1" $(printf '%#x' $(($2 - 1))) | sed 's|.*/||; s| (discriminator.*||' | grep -v '^atomic.h' | paste -sd'<' | sed 's/</ < /g'
}
missing=0 unreached=0
while read -r site reached killed p at; do
    what=
    [ "$reached" != 0 ] || what='never reached'
    [ $((reached & 1)) = 0 ] || [ $((killed & 1)) != 0 ] || what='no first death'
    [ $((reached & 2)) = 0 ] || [ $((killed & 2)) != 0 ] || what=${what:+$what, }'no death in a repair'
    engine "$p" "$at" || { echo "$site" >>"$dir/tests"; continue; }
    [ -n "$what" ] || continue
    case $what in
    never*) unreached=$((unreached + 1)) ;;
    *first*) missing=$((missing + 1)) ;;
    esac
    echo "$what: $(place "$p" "$at") ($site)"
done <"$dir/sites"
touch "$dir/tests"
awk -v missing=$missing -v unreached=$unreached 'FNR == NR { skip[$1]; next } $1 in skip { next } { n++; f += $3 % 2; rr += $2 >= 2; k += $3 >= 2 }
    END { printf "# total: %d stores in the code: somebody was killed just before %d of them at first, and before %d of the %d that a repairing process came to; %d others were reached, %d never\n", n, f, k, rr, missing, unreached }' "$dir/tests" "$dir/sites"
[ $missing = 0 ]
