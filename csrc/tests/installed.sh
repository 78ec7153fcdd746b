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
    return 0;
}
END
cat >"$dir/consumer.cpp" <<'END'
#include <shf.hpp>
int main() {
    auto t = shf::table::anonymous("consumer");
    t.put("key", "value");
    return t.get("key") == "value" ? 0 : 1;
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
