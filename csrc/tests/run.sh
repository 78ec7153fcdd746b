#!/bin/sh
# run.sh BUILD flavour/test...: runs them, JOBS at a time; a log each in BUILD/logs. Of a test that passed, the lines that
# begin with "# total" are shown: what it has counted. Last line: N passed, N failed.
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
        printf "ok     %-36s %4d s  %s%s\n" "$t" $took "$(tail -n 1 "$log")" "${said:+
$said}"
    else
        printf "FAILED %-36s %4d s  exit %d, %s:\n%s\n" "$t" $took $code "$log" "$(tail -n 60 "$log")"
    fi
'
printf '%s\n' "$@" | xargs -P "$jobs" -n 1 sh -c "$one" "$build"
passed=$(ls "$build/logs" | grep -c '\.passed$')
echo "$passed passed, $(($# - passed)) failed"
[ "$passed" = $# ]
