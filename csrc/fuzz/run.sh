#!/bin/sh
# run.sh FOLDER SECONDS fuzz_NAME...: runs each fuzzer of FOLDER for so long, two at a time. What it finds by the way goes to
# FOLDER/corpus, beside what fuzz/corpus has. A summary line each; an input that crashes is kept in FOLDER, and named.
folder=$1 seconds=$2
shift 2
export SHF_FUZZ_FOLDER
one='
    folder=$0 seconds=$1 name=$2
    log=$folder/$name.log
    SHF_FUZZ_FOLDER=$(mktemp -d /dev/shm/shf-fuzz-XXXXXX) # for tables with a path
    trap "rm -rf $SHF_FUZZ_FOLDER" EXIT
    trap "exit 2" HUP INT TERM
    mkdir -p "$folder/corpus/$name" "fuzz/corpus/$name"
    "$folder/$name" -max_total_time=$seconds -timeout=30 -rss_limit_mb=3000 -max_len=4096 -entropic=0 -len_control=0 -print_final_stats=1 -verbosity=1 \
        -artifact_prefix="$folder/$name-" "$folder/corpus/$name" "fuzz/corpus/$name" >"$log" 2>&1
    code=$?
    last=$(grep -E "^#[0-9]+.*cov: " "$log" | tail -n 1 |
        sed -E "s/^.*cov: ([0-9]+) ft: ([0-9]+) corp: ([0-9]+)\/.*$/\1 edges covered, \2 features, \3 inputs in the corpus/")
    runs=$(sed -n "s/^stat::number_of_executed_units: *//p" "$log")
    if [ $code = 0 ]; then
        echo "# total: $name: $runs inputs in $seconds s, $last; 0 crashes, 0 hangs"
    else
        tail -n 60 "$log"
        kept=$(sed -n "s/^.*Test unit written to //p" "$log" | tail -n 1)
        echo "# total: $name: FAILED ($code) after $runs inputs; kept: $kept"
        echo "again: cd csrc && $folder/$name $kept; mended: move it to csrc/fuzz/corpus/$name"
    fi
    exit $code
'
printf '%s\n' "$@" | xargs -P 2 -n 1 sh -c "$one" "$folder" "$seconds"
