#!/bin/sh
# installed.sh STAGE PREFIX VERSION: builds a program against the library installed at STAGE/PREFIX, as a user does.
set -e
stage=$1 prefix=$2 version=$3
lib=$stage$prefix/lib
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
export PKG_CONFIG_PATH="$lib/pkgconfig" PKG_CONFIG_SYSROOT_DIR="$stage"
cat >"$dir/consumer.c" <<'END'
#include <shf.h>
#include <stdio.h>
#include <string.h>
int main(void) {
    struct shf_table *t = NULL;
    size_t n = 0;
    char buf[8];
    if (strcmp(shf_version(), VERSION) != 0) return 1;
    if (shf_table_anonymous("consumer", NULL, &t) != SHF_OK) return puts(shf_last_error()->message), 2;
    if (shf_table_put(t, "key", 3, "value", 5, NULL) != SHF_OK) return 3;
    if (shf_table_get(t, "key", 3, buf, sizeof buf, &n) != SHF_OK || n != 5 || memcmp(buf, "value", 5) != 0) return 4;
    struct shf_bytes absent = {SHF_ABSENT, 0}, one = {"1", 1}; /* a symbol of data too */
    if (shf_table_cas(t, "new", 3, &absent, &one, NULL, 0, NULL) != SHF_OK) return 5;
    shf_table_close(t);
    const char *const names[] = {"free", "work"};
    struct shf_queue_options o = SHF_QUEUE_OPTIONS_INIT;
    struct shf_queue_set *set = NULL;
    struct shf_queue *empty = NULL, *work = NULL;
    struct shf_item item;
    o.items = 10, o.item_size = 100, o.queue_count = 2, o.queues = names;
    if (shf_queue_set_anonymous("consumer", &o, &set) != SHF_OK) return puts(shf_last_error()->message), 6;
    if (shf_queue_find(set, "free", &empty) != SHF_OK || shf_queue_find(set, "work", &work) != SHF_OK) return 7;
    if (shf_queue_pull(empty, &item) != SHF_OK) return 8;
    memcpy(item.data, "job", 4);
    if (shf_queue_push(work, &item) != SHF_OK || shf_queue_pull_wait(work, SHF_WAIT_FOREVER, &item) != SHF_OK) return 9;
    if (strcmp(item.data, "job") != 0 || shf_item_return(set, &item) != SHF_OK) return 10;
    shf_queue_set_close(set);
    return 0;
}
END
cat >"$dir/consumer.cpp" <<'END'
#include <cstring>
#include <shf.h>
#include <shf.hpp>
static int queues() { /* the C calls */
    const char *const names[] = {"free", "work"};
    shf_queue_options o = SHF_QUEUE_OPTIONS_INIT;
    shf_queue_set *set = nullptr;
    shf_queue *empty = nullptr, *work = nullptr;
    shf_batch *batch = nullptr;
    o.items = 10, o.item_size = 100, o.queue_count = 2, o.queues = names;
    if (shf_queue_set_anonymous("consumer", &o, &set) != SHF_OK) return 2;
    if (shf_queue_find(set, "free", &empty) != SHF_OK || shf_queue_find(set, "work", &work) != SHF_OK) return 3;
    if (shf_batch_new(set, 4, &batch) != SHF_OK || shf_queue_pull_many(empty, batch, 0) != SHF_OK) return 4;
    std::memcpy(shf_batch_data(batch, 3), "job", 4);
    if (shf_queue_push_many(work, batch) != SHF_OK || shf_queue_pull_many(work, batch, 0) != SHF_OK) return 5;
    const uint32_t *numbers = shf_batch_numbers(batch);
    auto *data = static_cast<char *>(shf_queue_set_data(set)) + numbers[3] * shf_queue_set_stride(set);
    if (shf_batch_count(batch) != 4 || std::strcmp(data, "job") != 0) return 6;
    shf_batch_free(batch);
    shf_queue_set_close(set);
    return 0;
}
int main() {
    auto t = shf::table::anonymous("consumer");
    t.put("key", "value");
    return t.get("key") == "value" ? queues() : 1;
}
END
if command -v pkg-config >/dev/null; then
    [ "$(pkg-config --modversion shf)" = "$version" ]
    flags=$(pkg-config --cflags --libs shf)
    static=$(pkg-config --cflags --libs --static shf)
else
    echo "installed.sh: no pkg-config here, its flags are written out"
    flags="-I$stage$prefix/include -L$lib -lshf" static="$flags -pthread"
fi
cd "$dir"
d="-DVERSION=\"$version\""
$CC -std=c11 -Wall -Wextra -Werror -pedantic "$d" consumer.c $flags -o shared
LD_LIBRARY_PATH=$lib ./shared
$CC -std=c11 -Wall -Wextra -Werror "$d" consumer.c $(echo "$static" | sed 's/-lshf/-l:libshf.a/') -o static
./static
$CXX -std=c++17 -Wall -Wextra -Werror -pedantic consumer.cpp $flags -o cxx
LD_LIBRARY_PATH=$lib ./cxx
others=$(nm -D --defined-only "$lib/libshf.so" | awk '{print $3}' | grep -v '^shf_[a-z]' | grep -v '^SHF_0' || true)
[ -z "$others" ] || { echo "exported beyond shf_*: $others"; exit 1; }
echo "ok     installed library: shared, static, C++; exports shf_* only"
