#!/bin/sh
# coverage.sh FOLDER...: lines and branches of src/ that the tests reached, of all these builds together (make coverage)
#
# A line is reached if it is in any build. Builds differ in their macros, so a line may have more branches in one than
# in another: the build with the most is counted, and only what was taken there (or in another with as many).
# A process that dies by SIGKILL leaves no counters: what only such processes reach is reported as not reached.
#
# Fails below LINES % of all lines, and if one line of the code that decides after a death was not reached: RECOVERY
# names files, or functions of them. SHF_BRANCHES=1: says of every file, not only of those, which branches were not
# taken.
LINES=95
RECOVERY='
    lock.c lock.h table_step.c
    table_cells.c:apply_cell table_cells.c:apply_value table_cells.c:shf__cells_apply
    table_cells.c:shf__cells_sides table_cells.c:shf__cells_apply_split
    pages.c:shf__pages_free pages.c:shf__pages_give_back pages.c:shf__pages_head pages.c:shf__pages_entry
    pages_pending.c:own_claims pages_pending.c:shf__pages_sweep_slot
    registry.c:shf__registry_is_dead registry.c:others_alive registry.c:check_unclean registry.c:sweep_dead
    registry.c:shf__registry_sweep
    registry.c:shf__registry_is_over registry.c:somebody_lives os.c:os_process_is_over os.c:thread_is_over
    pages.c:shf__pages_out_of_reach table_clear.c:shf__grave_within_reach table.c:take_over_own
'
cd "$(dirname "$0")/.." || exit 2
for build; do
    echo "=== $build"
    "${GCOV:-gcov}" -t -b -c "$build"/*.gcno 2>/dev/null || exit 2
done | awk -v least="$LINES" -v recovery="$RECOVERY" -v all="${SHF_BRANCHES:-0}" '
function flush_branches(   i, key) { # of the line before, in one copy of its function
    if (n == 0) return
    key = file SUBSEP line
    if (n > most[key]) most[key] = n
    for (i = 0; i < n; i++) if (took[i]) taken[key, n, i] = 1
    n = 0
}
function down(a, b) { return b ? int(1000 * a / b) / 10 : 0 } # 99.99 is not 100
function percent(a, b) { return b ? sprintf("%5.1f %%", down(a, b)) : "      -" }
function commas(x,   s) {
    for (s = ""; x >= 1000; x = int(x / 1000)) s = sprintf(",%03d%s", x % 1000, s)
    return x s
}
BEGIN {
    rules = split(recovery, rule, " ")
    for (i = 1; i <= rules; i++) is_rule[rule[i]] = 1
}
/^ *-: *0:Source:/ {
    flush_branches()
    file = $0
    sub(/.*Source:/, "", file)
    wanted = sub(/^src\//, "", file)
    if (wanted && !(file in known)) { known[file] = 1; files[++nfiles] = file }
    fn = ""
    next
}
!wanted { next }
/^function / { flush_branches(); fn = $2; next }
/^branch / { took[n++] = $3 == "taken" && $4 != "0"; next }
/^ *[-0-9#=%]+\*?: *[0-9]+:/ {
    flush_branches()
    count = $0
    sub(/:.*/, "", count)
    gsub(/[ *]/, "", count)
    text = $0
    sub(/^[^:]*: */, "", text)
    line = text + 0
    sub(/^[0-9]+:/, "", text)
    if (count == "-" || line == 0) next
    key = file SUBSEP line
    if (line > last[file]) last[file] = line
    source[key] = text
    hit[key] += count ~ /^[1-9]/
    if (file in is_rule) { must[key] = 1; used[file] = 1 }
    if ((file ":" fn) in is_rule) { must[key] = 1; used[file ":" fn] = 1 }
}
END {
    flush_branches()
    for (i = 1; i <= nfiles; i++) # by name
        for (j = i; j > 1 && files[j] < files[j - 1]; j--) { f = files[j]; files[j] = files[j - 1]; files[j - 1] = f }
    printf "%-20s %6s %6s %8s   %8s %6s %8s\n", "csrc/src", "lines", "hit", "", "branches", "taken", ""
    for (i = 1; i <= nfiles; i++) {
        f = files[i]
        l = h = b = t = 0
        for (j = 1; j <= last[f]; j++) {
            key = f SUBSEP j
            if (!(key in source)) continue
            l++
            h += reached = hit[key] > 0
            m = most[key] + 0
            b += m
            here = 0
            for (k = 0; k < m; k++) here += taken[key, m, k]
            t += here
            if (!reached)
                misses[++nmisses] = sprintf("src/%s:%d:%s%s", f, j, source[key], must[key] ? "    <-- RECOVERY" : "")
            else if (here < m && (must[key] || all))
                open[++nopen] = sprintf("src/%s:%d:%s    (%d of %d)", f, j, source[key], here, m)
            if (must[key]) { ml++; mh += reached; mb += m; mt += here }
        }
        printf "%-20s %6d %6d %8s   %8d %6d %8s\n", f, l, h, percent(h, l), b, t, percent(t, b)
        L += l; H += h; B += b; T += t
    }
    print ""
    print nmisses + 0 " lines not reached:"
    for (i = 1; i <= nmisses; i++) print misses[i]
    print ""
    print nopen + 0 " lines " (all ? "" : "of recovery and locks ") "with a branch not taken:"
    for (i = 1; i <= nopen; i++) print open[i]
    print ""
    bad = L == 0 || 100 * H < least * L
    if (bad) print "FAILED: fewer than " least " % of the lines"
    if (mh < ml) bad = 1; if (mh < ml) print "FAILED: " ml - mh " lines of recovery and locks were not reached"
    for (i = 1; i <= rules; i++) if (!used[rule[i]]) { bad = 1; print "FAILED: there is no " rule[i] }
    printf "# total: %s of %s lines of csrc/src reached (%.1f %%), %s of %s branches taken (%.1f %%); ", \
        commas(H), commas(L), down(H, L), commas(T), commas(B), down(T, B)
    printf "recovery and locks: %s of %s lines, %s of %s branches\n", commas(mh), commas(ml), commas(mt), commas(mb)
    exit bad
}'
