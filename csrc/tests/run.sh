#!/bin/sh
# run.sh BUILD flavour/test...: runs them, JOBS at a time; a log each in BUILD/logs. Of a test that passed, the lines that
# begin with "# total" are shown: what it has counted. A record may keep only the end of this: what failed is said again
# there, why (SHF_WHY=30 lines of each, fewer if there are many), and the names. Last line: N passed, N failed.
build=$1
shift
jobs=${JOBS:-2}
rm -rf "$build/logs"
mkdir -p "$build/logs"
one='
    t=$1 build=$0
    log=$build/logs/$(echo "$t" | tr / -).log
    start=$(date +%s)
    case $t in
    tsan/*) SHF_THREADS_ONLY=1 TSAN_OPTIONS="halt_on_error=1 second_deadlock_stack=1 $TSAN_OPTIONS" \
        setarch -R "$build/$t" >"$log" 2>&1 ;; # gcc 12 knows no 32 random bits of mmap
    *) "$build/$t" >"$log" 2>&1 ;;
    esac
    code=$?
    took=$(($(date +%s) - start))
    if [ $code = 0 ]; then
        touch "$log.passed"
        said=$(sed -n "s,^# total: *,    # total of $t: ,p" "$log")
        printf "ok     %-36s %4d s  %s%s\n" "$t" $took "$(grep -E "^[0-9]+ passed" "$log" | tail -n 1)" "${said:+
$said}"
    else
        echo $code >"$log.failed"
        printf "FAILED %-36s %4d s  exit %d, %s:\n%s\n" "$t" $took $code "$log" "$(tail -n 60 "$log" | sed "s/^/    | /")"
    fi
'
printf '%s\n' "$@" | xargs -P "$jobs" -n 1 sh -c "$one" "$build"

# Lines of a log that say why: failed checks, what a sanitizer reports, a hang; else its end.
why() {
    awk '
        /: in [a-z_0-9]+ \(SHF_SEED=|^FAILED|^\*\*\* / { print; next }
        /ERROR: [A-Za-z]+Sanitizer|WARNING: ThreadSanitizer|runtime error: / { stack = 30 }
        stack > 0 { stack--; print }
    ' "$1" | head -n "$2" >"$1.why"
    [ -s "$1.why" ] || tail -n 10 "$1" >"$1.why"
    grep -q 'SHF_SEED=' "$1.why" || sed -n '/SHF_SEED=/{p;q}' "$1"
    cat "$1.why"
}
passed=0 failed=0 names=
for t; do
    log=$build/logs/$(echo "$t" | tr / -).log
    if [ -e "$log.passed" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        names="$names $t"
    fi
done
if [ $failed != 0 ]; then
    echo "== what failed, and why"
    for t in $names; do
        log=$build/logs/$(echo "$t" | tr / -).log
        echo "FAILED $t: exit $(cat "$log.failed" 2>/dev/null || echo 'unknown: it did not end')"
        [ ! -e "$log" ] || why "$log" $((${SHF_WHY:-30} / (failed < 6 ? failed : 6))) | cut -c 1-300 | sed 's/^/    | /'
    done
    echo "$failed failed:$names"
fi
echo "$passed passed, $failed failed"
[ $failed = 0 ]
