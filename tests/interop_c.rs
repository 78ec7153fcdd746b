//! C, C++ and Rust on one file: the library is installed as a distribution would, a program is compiled against it
//! with `pkg-config`, static and shared, and each side reads what the other wrote.

use std::{
    env, fs,
    os::fd::{AsFd, AsRawFd},
    path::{Path, PathBuf},
    process::Command,
};

use shf::{Table, TableOptions};

mod common;

/// As C11 and as C++17. `write PATH`, `read PATH`, or `read-fd PATH`, which goes through a descriptor. `double PATH`: of
/// fixed lengths.
const CONSUMER: &str = r#"
#include <shf.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int fail(const char *what, int code)
{
    const struct shf_error_info *info = shf_last_error();
    fprintf(stderr, "%s: %d (%s): %s at %s\n", what, code, shf_strerror(code), info->message, info->place);
    return 1;
}

static int append(void *context, const struct shf_bytes *old, struct shf_bytes *desired)
{
    static char text[64];
    if (old->data == SHF_ABSENT || old->len + 3 > sizeof(text))
        return 1;
    memcpy(text, old->data, old->len);
    memcpy(text + old->len, (const char *)context, 3);
    desired->data = text;
    desired->len = old->len + 3;
    return 0;
}

static int write_all(struct shf_table *table)
{
    char key[32], value[64];
    for (int i = 0; i < 2000; i++) {
        uint32_t uid = 0;
        int klen = snprintf(key, sizeof(key), "from C %d", i);
        int vlen = snprintf(value, sizeof(value), "value %d of C", i);
        int code = shf_table_put(table, key, (size_t)klen, value, (size_t)vlen, &uid);
        if (code != SHF_OK || uid == 0)
            return fail("put", code);
    }
    int64_t previous = -1;
    int code = shf_table_add(table, "counter", 7, 40, &previous);
    if (code != SHF_OK || previous != 2)
        return fail("add", code);
    code = shf_table_update(table, "text", 4, append, (void *)"+C+", NULL);
    if (code != SHF_OK)
        return fail("update", code);
    code = shf_table_add(table, "text", 4, 1, NULL);
    if (code != SHF_ERR_NOT_A_COUNTER || shf_last_error()->code != code)
        return fail("add to a text", code);
    return 0;
}

static int read_all(struct shf_table *table)
{
    static char expected[20000], got[20000];
    char key[32];
    for (int i = 0; i < 2000; i++) {
        size_t klen = (size_t)snprintf(key, sizeof(key), "from Rust %d", i), length = 0;
        size_t wanted = (size_t)(i * 9);
        memset(expected, i & 255, wanted);
        int code = shf_table_get(table, key, klen, got, sizeof(got), &length);
        if (code != SHF_OK || length != wanted || memcmp(got, expected, wanted) != 0)
            return fail("get", code);
    }
    uint64_t keys = 0, position = 0, seen = 0;
    int code = shf_table_len(table, &keys);
    if (code != SHF_OK)
        return fail("len", code);
    size_t klen, vlen;
    while ((code = shf_table_next(table, &position, key, sizeof(key), &klen, got, sizeof(got), &vlen, NULL)) == SHF_OK)
        seen++;
    if (code != SHF_NOT_FOUND || seen != keys)
        return fail("next", code);
    struct shf_table_report report;
    memset(&report, 0, sizeof(report));
    report.size = sizeof(report);
    code = shf_table_check(table, &report);
    if (code != SHF_OK || report.problems != 0)
        return fail(report.first, code);
    return 0;
}

/* Keys and values of 8 bytes: each of the first 1,000 numbers has its double; then its negative has, too. */
static int twice(struct shf_table *table)
{
    static int64_t keys[1000], negatives[1000], values[1000];
    static struct shf_bytes names[1000];
    static struct shf_pair pairs[1000];
    static size_t lengths[1000];
    struct shf_table_options options = SHF_TABLE_OPTIONS_INIT;
    size_t done = 0;
    int code = shf_table_options(table, &options);
    if (code != SHF_OK || options.fixed_key != 8 || options.fixed_value != 8)
        return fail("options", code);
    for (int i = 0; i < 1000; i++) {
        keys[i] = i;
        names[i].data = &keys[i];
        names[i].len = 8;
    }
    code = shf_table_get_many_packed(table, 1000, names, values, sizeof(values), lengths, &done);
    if (code != SHF_OK || done != 1000)
        return fail("get_many", code);
    for (int i = 0; i < 1000; i++) {
        if (lengths[i] != 8 || values[i] != 2 * keys[i])
            return fail("a value of the batch", 0);
        negatives[i] = -1 - keys[i];
        values[i] = 2 * negatives[i];
        pairs[i].key.data = &negatives[i];
        pairs[i].value.data = &values[i];
        pairs[i].key.len = pairs[i].value.len = 8;
    }
    code = shf_table_put_many(table, 1000, pairs, &done);
    if (code != SHF_OK || done != 1000)
        return fail("put_many", code);
    code = shf_table_put(table, "short", 5, "12345678", 8, NULL);
    return code == SHF_ERR_WRONG_LENGTH ? 0 : fail("a short key", code);
}

int main(int argc, char **argv)
{
    struct shf_table *table = NULL;
    struct shf_table_options options = SHF_TABLE_OPTIONS_INIT;
    if (argc != 3)
        return 2;
    int code;
    if (strcmp(argv[1], "read-fd") == 0) {
        int fd = open(argv[2], O_RDWR);
        code = shf_table_from_fd(fd, &options, &table);
        close(fd); /* the table has its own */
    } else {
        code = shf_table_open(argv[2], 0, &options, &table);
    }
    if (code != SHF_OK)
        return fail("open", code);
    int status = strcmp(argv[1], "double") == 0  ? twice(table)
                 : strcmp(argv[1], "write") == 0 ? write_all(table)
                                                 : read_all(table);
    shf_table_close(table);
    return status;
}
"#;

fn run(command: &mut Command) -> String {
    command.env_remove("MAKEFLAGS").env_remove("CARGO_MAKEFLAGS");
    let output = command.output().unwrap_or_else(|why| panic!("{command:?}: {why}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
    out.trim().to_string()
}

/// What a distribution's package would hold.
struct Installed {
    prefix: PathBuf,
    library: PathBuf,
}

impl Installed {
    fn new() -> Installed {
        let base = Path::new(env!("CARGO_TARGET_TMPDIR")).join("csrc-install");
        let prefix = base.join("prefix");
        let _ = fs::remove_dir_all(&prefix);
        run(Command::new("make")
            .args(["-C", concat!(env!("CARGO_MANIFEST_DIR"), "/csrc"), "-j2", "install"])
            .arg(format!("PREFIX={}", prefix.display()))
            .arg(format!("BUILD={}", base.join("build").display())));
        let library = prefix.join("lib");
        assert!(library.join("libshf.a").is_file() && library.join("libshf.so").exists());
        assert!(prefix.join("include/shf.h").is_file());
        Installed { prefix, library }
    }

    /// Words of `pkg-config`, or of `shf.pc` itself where there is no pkg-config.
    fn flags(&self, what: &str) -> Vec<String> {
        let folder = self.library.join("pkgconfig");
        let asked = Command::new("pkg-config")
            .args([what, "shf"])
            .env("PKG_CONFIG_PATH", &folder)
            .env("PKG_CONFIG_ALLOW_SYSTEM_CFLAGS", "1")
            .output();
        let text = if let Ok(output) = asked {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8_lossy(&output.stdout).into_owned()
        } else {
            let file = fs::read_to_string(folder.join("shf.pc")).expect("shf.pc");
            let field = if what == "--cflags" { "Cflags:" } else { "Libs:" };
            let line = file.lines().find_map(|line| line.strip_prefix(field)).expect("the field in shf.pc");
            line.replace("${includedir}", &self.prefix.join("include").to_string_lossy())
                .replace("${libdir}", &self.library.to_string_lossy())
        };
        text.split_whitespace().map(str::to_string).collect()
    }

    fn compile(&self, folder: &Path, language: &str, shared: bool) -> PathBuf {
        let (compiler, standard, ending) =
            if language == "C" { ("cc", "-std=c11", "c") } else { ("c++", "-std=c++17", "cpp") };
        let source = folder.join(format!("consumer.{ending}"));
        fs::write(&source, CONSUMER).unwrap();
        let binary = folder.join(format!("consumer-{ending}-{shared}"));
        let mut command = Command::new(compiler);
        command.args([standard, "-Wall", "-Wextra", "-Werror"]).args(self.flags("--cflags")).arg(&source);
        if shared {
            command.args(self.flags("--libs"));
        } else {
            command.arg(self.library.join("libshf.a")).arg("-pthread");
        }
        if let Ok(kind) = env::var("SHF_SANITIZE")
            && !kind.is_empty()
        {
            command.arg(format!("-fsanitize={kind}"));
        }
        run(command.arg("-o").arg(&binary));
        binary
    }
}

fn story(installed: &Installed, binary: &Path, what: &str) {
    let folder = common::folder();
    let path = folder.path().join("t.shf");
    let consumer = |job: &str, target: &str| {
        run(Command::new(binary).args([job, target]).env("LD_LIBRARY_PATH", &installed.library));
    };
    let table = TableOptions::new().create(&path).unwrap();
    table.fetch_add("counter", 2).unwrap();
    table.put("text", "Rust").unwrap();
    consumer("write", path.to_str().unwrap());
    for i in 0..2_000 {
        let value = table.get(format!("from C {i}")).unwrap();
        assert_eq!(value, Some(format!("value {i} of C").into_bytes()), "{what}");
    }
    assert_eq!(table.fetch_add("counter", 0).unwrap(), 42, "{what}");
    assert_eq!(table.get("text").unwrap(), Some(b"Rust+C+".to_vec()), "{what}");

    fill(&table);
    consumer("read", path.to_str().unwrap());
    drop(table);
    consumer("read", path.to_str().unwrap()); // alone
    let table = Table::open(&path).unwrap();
    assert_eq!(table.len().unwrap(), 4_002, "{what}");
    common::assert_consistent(&table);

    let path = folder.path().join("fixed.shf");
    let fixed = TableOptions::new().fixed(8, 8).create(&path).unwrap();
    let pair = |number: i64| (number.to_le_bytes(), (2 * number).to_le_bytes());
    let pairs: Vec<_> = (0..1_000).map(pair).collect();
    assert_eq!(fixed.put_many(&pairs).unwrap(), 1_000);
    consumer("double", path.to_str().unwrap());
    let pairs: Vec<_> = (-1_000..1_000).map(pair).collect();
    let keys: Vec<_> = pairs.iter().map(|(key, _)| key).collect();
    let values = fixed.get_many(&keys).unwrap();
    assert!(values.iter().zip(&pairs).all(|(value, (_, double))| value == Some(double)), "{what}");
    common::assert_consistent(&fixed);

    // The descriptor comes through /proc, so that it need not be inherited.
    let memory = TableOptions::new().anonymous("interop").unwrap();
    fill(&memory);
    consumer("read-fd", &format!("/proc/{}/fd/{}", std::process::id(), memory.as_fd().as_raw_fd()));
}

/// What the consumer's `read` expects.
fn fill(table: &Table) {
    for i in 0..2_000usize {
        let byte = u8::try_from(i & 255).unwrap();
        table.put(format!("from Rust {i}"), vec![byte; i * 9]).unwrap();
    }
}

#[test]
fn c_and_cpp_programs_share_tables_with_rust() {
    let installed = Installed::new();
    let folder = common::folder();
    for language in ["C", "C++"] {
        for shared in [false, true] {
            let binary = installed.compile(folder.path(), language, shared);
            story(&installed, &binary, &format!("{language}, {}", if shared { "shared" } else { "static" }));
        }
    }
}
