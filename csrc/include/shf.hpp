/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * shf.hpp - shf.h for C++17: a table that closes itself, std::string_view in, std::optional<std::string> out
 *
 *     auto t = shf::table::open("/dev/shm/users.shf", SHF_CREATE);
 *     t.put("key", "value");
 *     if (auto v = t.get("key")) use(*v);
 *
 * Errors are thrown as shf::error; "not there" is an empty optional or false. All else is as shf.h says, threads and
 * forks included. Move-only. Header only: it calls the C library and adds no symbols of its own.
 */
#ifndef SHF_HPP
#define SHF_HPP

#if defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow" /* two functions are named as their struct; in C++ they hide constructors */
#endif
#include "shf.h"
#if defined(__GNUC__)
#pragma GCC diagnostic pop
#endif

#include <cstdint>
#include <exception>
#include <functional>
#include <initializer_list>
#include <iterator>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace shf {

/* What shf_last_error() said. what() is its message. */
class error : public std::runtime_error {
  public:
    explicit error(const shf_error_info &e)
        : std::runtime_error(e.message), code_(e.code), os_error_(e.os_error), place_(e.place), path_(e.path) {}
    int code() const noexcept { return code_; } /* SHF_ERR_* */
    int os_error() const noexcept { return os_error_; }
    const std::string &place() const noexcept { return place_; }
    const std::string &path() const noexcept { return path_; }

  private:
    int code_, os_error_;
    std::string place_, path_;
};

using options = struct ::shf_table_options;
using table_stats = struct ::shf_table_stats;
using table_report = struct ::shf_table_report;
inline options default_options() noexcept { return SHF_TABLE_OPTIONS_INIT; }

struct inserted {
    bool created; /* false: the key was there, nothing changed */
    std::uint32_t uid;
};
struct exchanged {
    bool done;
    std::optional<std::string> present; /* not done: the value that is there, if any */
};
struct entry {
    std::string key, value;
    std::uint32_t uid = 0;
};

/* The values of many keys: table::get_many. They lie in one buffer, which is used again by table::get_many_into. */
class values {
  public:
    std::size_t size() const noexcept { return ends_.size(); } /* of the keys, the absent ones included */
    bool empty() const noexcept { return ends_.empty(); }
    /* Of key i < size(); nullopt: it is absent. Valid until the object is filled again. */
    std::optional<std::string_view> operator[](std::size_t i) const {
        std::size_t start = i == 0 ? 0 : ends_[i - 1] & ~absent, end = ends_[i];
        if ((end & absent) != 0) return std::nullopt;
        return std::string_view(bytes_.data() + start, end - start);
    }

  private:
    friend class table;
    static constexpr std::size_t absent = SIZE_MAX - SIZE_MAX / 2; /* in ends_: the top bit */
    void clear() noexcept {
        ends_.clear();
        used_ = 0;
    }
    /* Appends the answers for up to n keys: call(buf, cap, lens, &done). Sets done; after an error there are none. */
    template <class F> int append(std::size_t n, std::size_t &done, F &&call) {
        std::size_t from = ends_.size(), need = 0;
        ends_.resize(from + n);
        done = 0;
        int rc = call(bytes_.data() + used_, bytes_.size() - used_, ends_.data() + from, &done);
        if (rc < 0) {
            clear();
            return rc;
        }
        if (rc == SHF_TRUNCATED) need = ends_[from + done];
        ends_.resize(from + done);
        for (std::size_t i = from; i < ends_.size(); i++) {
            bool none = ends_[i] == SHF_NO_VALUE;
            if (!none) used_ += ends_[i];
            ends_[i] = used_ | (none ? absent : 0);
        }
        if (rc == SHF_TRUNCATED) bytes_.resize(2 * bytes_.size() + (need < 4096 ? 4096 : need));
        return rc;
    }
    std::string bytes_;             /* its size is what may be filled, */
    std::size_t used_ = 0;          /* and this much is */
    std::vector<std::size_t> ends_; /* of each value in bytes_; it begins where the one before it ends */
};

class table {
  public:
    static table open(const std::string &path, unsigned flags = 0, const options *o = nullptr) {
        shf_table *t = nullptr;
        check(shf_table_open(path.c_str(), flags, o, &t));
        return table(t);
    }
    static table anonymous(const std::string &name, const options *o = nullptr) {
        shf_table *t = nullptr;
        check(shf_table_anonymous(name.c_str(), o, &t));
        return table(t);
    }
    /* The caller keeps `fd`. */
    static table from_fd(int fd, const options *o = nullptr) {
        shf_table *t = nullptr;
        check(shf_table_from_fd(fd, o, &t));
        return table(t);
    }
    table(table &&other) noexcept : t_(std::exchange(other.t_, nullptr)) {}
    table &operator=(table &&other) noexcept {
        if (this != &other) {
            shf_table_close(t_);
            t_ = std::exchange(other.t_, nullptr);
        }
        return *this;
    }
    table(const table &) = delete;
    table &operator=(const table &) = delete;
    ~table() { shf_table_close(t_); }

    /* Returns the UID. */
    std::uint32_t put(std::string_view key, std::string_view value) {
        std::uint32_t uid = 0;
        check(shf_table_put(t_, key.data(), key.size(), value.data(), value.size(), &uid));
        return uid;
    }
    inserted insert(std::string_view key, std::string_view value) {
        std::uint32_t uid = 0;
        int rc = check(shf_table_insert(t_, key.data(), key.size(), value.data(), value.size(), &uid));
        return {rc == SHF_OK, uid};
    }
    /* The old value; nothing changes if there was none. */
    std::optional<std::string> replace(std::string_view key, std::string_view value) {
        return fetch([&](char *buf, std::size_t cap, std::size_t *n) {
            return shf_table_replace(t_, key.data(), key.size(), value.data(), value.size(), buf, cap, n);
        });
    }
    std::optional<std::string> get(std::string_view key) const {
        return fetch([&](char *buf, std::size_t cap, std::size_t *n) {
            return shf_table_get(t_, key.data(), key.size(), buf, cap, n);
        });
    }
    /* Into a string that is used again: no allocation once it has grown. */
    bool get_into(std::string_view key, std::string &out) const {
        return fetch_into(out, [&](char *buf, std::size_t cap, std::size_t *n) {
            return shf_table_get(t_, key.data(), key.size(), buf, cap, n);
        });
    }
    bool contains(std::string_view key) const { return check(shf_table_contains(t_, key.data(), key.size())) == SHF_OK; }
    bool remove(std::string_view key) { return check(shf_table_del(t_, key.data(), key.size())) == SHF_OK; }
    std::optional<std::string> take(std::string_view key) {
        return fetch([&](char *buf, std::size_t cap, std::size_t *n) {
            return shf_table_take(t_, key.data(), key.size(), buf, cap, n);
        });
    }
    bool remove_if_equal(std::string_view key, std::string_view value) {
        return check(shf_table_del_if_equal(t_, key.data(), key.size(), value.data(), value.size())) == SHF_OK;
    }
    /* The value before. */
    std::int64_t fetch_add(std::string_view key, std::int64_t delta) {
        std::int64_t previous = 0;
        check(shf_table_add(t_, key.data(), key.size(), delta, &previous));
        return previous;
    }
    /* nullopt stands for "not there", on both sides. */
    exchanged compare_exchange(std::string_view key, std::optional<std::string_view> expected,
                               std::optional<std::string_view> desired) {
        shf_bytes e = bytes(expected), d = bytes(desired);
        std::string buf(64, '\0');
        for (;;) {
            std::size_t n = 0;
            int rc = check(shf_table_cas(t_, key.data(), key.size(), &e, &d, buf.data(), buf.size(), &n));
            if (rc == SHF_OK) return {true, std::nullopt};
            if (n == SIZE_MAX) return {false, std::nullopt};
            bool whole = n <= buf.size();
            buf.resize(n);
            if (whole) return {false, std::move(buf)};
        }
    }
    /* f(std::optional<std::string_view> old) returns std::optional<std::string>: the new value, or nullopt to remove
     * the key. It runs without a lock, again if somebody was faster; an exception leaves the value as it is. Returns
     * the UID if there is a value now. */
    template <class F> std::optional<std::uint32_t> update(std::string_view key, F &&f) {
        struct context {
            F &f;
            std::optional<std::string> value;
            std::exception_ptr thrown;
        } c{f, std::nullopt, nullptr};
        std::uint32_t uid = 0;
        shf_update_fn *call = [](void *p, const shf_bytes *old, shf_bytes *desired) -> int {
            auto &x = *static_cast<context *>(p);
            try {
                std::optional<std::string_view> before;
                if (old->data != SHF_ABSENT) before.emplace(static_cast<const char *>(old->data), old->len);
                x.value = x.f(before);
            } catch (...) {
                x.thrown = std::current_exception();
                return 1;
            }
            *desired = x.value ? bytes(std::string_view(*x.value)) : bytes(std::nullopt);
            return 0;
        };
        int rc = shf_table_update(t_, key.data(), key.size(), call, &c, &uid);
        if (c.thrown) std::rethrow_exception(c.thrown);
        check(rc);
        if (uid == 0) return std::nullopt;
        return uid;
    }

    /* Many keys at once: two to four times the rate of single calls on a table larger than the caches. Each key is
     * atomic, the batch is not. `keys` is any container whose elements convert to std::string_view without a copy. */
    template <class Keys> values get_many(const Keys &keys) const {
        values out;
        get_many_into(keys, out);
        return out;
    }
    values get_many(std::initializer_list<std::string_view> keys) const {
        return get_many<std::initializer_list<std::string_view>>(keys);
    }
    /* No allocation once `out` has grown. After an exception it is empty. */
    template <class Keys> void get_many_into(const Keys &keys, values &out) const {
        collect<shf_bytes>(keys, out, key_bytes,
                           [this](std::size_t n, const shf_bytes *part, char *buf, std::size_t cap, std::size_t *lens,
                                  std::size_t *done) {
                               return shf_table_get_many_packed(t_, n, part, buf, cap, lens, done);
                           });
    }
    /* `pairs`: of things that convert to std::string_view. In order. Returns how many were put: all, or fewer if an
     * error came after so many; the call with the rest throws it. Throws if the first fails: nothing changed. */
    template <class Pairs> std::size_t put_many(const Pairs &pairs) {
        std::size_t put = 0;
        int rc = SHF_OK;
        parts<shf_pair>(
            pairs, [](const auto &p) { return shf_pair{key_bytes(p.first), key_bytes(p.second)}; },
            [&](std::size_t n, const shf_pair *part) {
                std::size_t done = 0;
                rc = shf_table_put_many(t_, n, part, &done);
                put += done;
                return rc == SHF_OK;
            });
        if (put == 0) check(rc);
        return put;
    }
    std::size_t put_many(std::initializer_list<std::pair<std::string_view, std::string_view>> pairs) {
        return put_many<std::initializer_list<std::pair<std::string_view, std::string_view>>>(pairs);
    }
    /* Returns how many were there. An exception may come after some were removed. */
    template <class Keys> std::size_t remove_many(const Keys &keys) {
        std::size_t removed = 0;
        parts<shf_bytes>(keys, key_bytes, [&](std::size_t n, const shf_bytes *part) {
            std::size_t there = 0;
            check(shf_table_del_many(t_, n, part, &there, nullptr));
            removed += there;
            return true;
        });
        return removed;
    }
    std::size_t remove_many(std::initializer_list<std::string_view> keys) {
        return remove_many<std::initializer_list<std::string_view>>(keys);
    }
    template <class Uids> values get_many_by_uid(const Uids &uids) const {
        values out;
        get_many_by_uid_into(uids, out);
        return out;
    }
    template <class Uids> void get_many_by_uid_into(const Uids &uids, values &out) const {
        collect<std::uint32_t>(
            uids, out, [](std::uint32_t u) { return u; },
            [this](std::size_t n, const std::uint32_t *part, char *buf, std::size_t cap, std::size_t *lens,
                   std::size_t *done) { return shf_table_get_many_by_uid_packed(t_, n, part, buf, cap, lens, done); });
    }
    template <class Uids> values get_many_by_checked_uid(const Uids &uids) const {
        values out;
        get_many_by_checked_uid_into(uids, out);
        return out;
    }
    template <class Uids> void get_many_by_checked_uid_into(const Uids &uids, values &out) const {
        collect<std::uint64_t>(
            uids, out, [](std::uint64_t u) { return u; },
            [this](std::size_t n, const std::uint64_t *part, char *buf, std::size_t cap, std::size_t *lens,
                   std::size_t *done) {
                return shf_table_get_many_by_checked_uid_packed(t_, n, part, buf, cap, lens, done);
            });
    }

    std::optional<std::uint32_t> uid(std::string_view key) const {
        std::uint32_t u = 0;
        if (check(shf_table_uid(t_, key.data(), key.size(), &u)) != SHF_OK) return std::nullopt;
        return u;
    }
    std::optional<std::uint64_t> checked_uid(std::string_view key) const {
        std::uint64_t u = 0;
        if (check(shf_table_checked_uid(t_, key.data(), key.size(), &u)) != SHF_OK) return std::nullopt;
        return u;
    }
    std::optional<std::string> get_by_uid(std::uint32_t u) const {
        return fetch([&](char *buf, std::size_t cap, std::size_t *n) { return shf_table_get_by_uid(t_, u, buf, cap, n); });
    }
    std::optional<std::string> key_by_uid(std::uint32_t u) const {
        return fetch([&](char *buf, std::size_t cap, std::size_t *n) { return shf_table_key_by_uid(t_, u, buf, cap, n); });
    }
    bool put_by_uid(std::uint32_t u, std::string_view value) {
        return check(shf_table_put_by_uid(t_, u, value.data(), value.size())) == SHF_OK;
    }
    bool remove_by_uid(std::uint32_t u) { return check(shf_table_del_by_uid(t_, u)) == SHF_OK; }
    std::optional<std::string> get_by_checked_uid(std::uint64_t u) const {
        return fetch(
            [&](char *buf, std::size_t cap, std::size_t *n) { return shf_table_get_by_checked_uid(t_, u, buf, cap, n); });
    }
    std::optional<std::string> key_by_checked_uid(std::uint64_t u) const {
        return fetch(
            [&](char *buf, std::size_t cap, std::size_t *n) { return shf_table_key_by_checked_uid(t_, u, buf, cap, n); });
    }
    bool put_by_checked_uid(std::uint64_t u, std::string_view value) {
        return check(shf_table_put_by_checked_uid(t_, u, value.data(), value.size())) == SHF_OK;
    }
    bool remove_by_checked_uid(std::uint64_t u) { return check(shf_table_del_by_checked_uid(t_, u)) == SHF_OK; }

    /* The entry at the position, which moves on; false at the end. Start with 0. */
    bool next(std::uint64_t &position, entry &e) const {
        if (e.key.size() < 64) e.key.resize(64);
        if (e.value.size() < 64) e.value.resize(64);
        for (;;) {
            std::size_t k = 0, v = 0;
            int rc = check(shf_table_next(t_, &position, e.key.data(), e.key.size(), &k, e.value.data(), e.value.size(),
                                          &v, &e.uid));
            if (rc == SHF_NOT_FOUND) return false;
            if (rc == SHF_TRUNCATED) {
                if (k > e.key.size()) e.key.resize(k);
                if (v > e.value.size()) e.value.resize(v);
                continue;
            }
            e.key.resize(k);
            e.value.resize(v);
            return true;
        }
    }
    template <class F> void for_each(F &&f) const { /* f(const shf::entry &) */
        std::uint64_t position = 0;
        entry e;
        while (next(position, e)) f(static_cast<const entry &>(e));
    }
    std::uint64_t size() const {
        std::uint64_t n = 0;
        check(shf_table_len(t_, &n));
        return n;
    }
    bool empty() const { return size() == 0; }
    void clear() { check(shf_table_clear(t_)); }
    /* How many bytes of the file are in huge pages now: shf_table_collapse. */
    std::uint64_t use_huge_pages() const {
        std::uint64_t bytes = 0;
        check(shf_table_collapse(t_, &bytes));
        return bytes;
    }
    table_stats stats() const {
        table_stats s{};
        s.size = sizeof s;
        check(shf_table_stats(t_, &s));
        return s;
    }
    /* Does not throw on SHF_ERR_CORRUPT: look at report.problems. */
    table_report verify() const {
        table_report r{};
        r.size = sizeof r;
        int rc = shf_table_check(t_, &r);
        if (rc != SHF_ERR_CORRUPT) check(rc);
        if (rc == SHF_ERR_CORRUPT && r.problems == 0) r.problems = 1;
        return r;
    }
    bool read_only() const { return shf_table_is_read_only(t_) != 0; }
    std::string path() const { return shf_table_path(t_); }
    int fd() const { return shf_table_fd(t_); }
    shf_table *handle() const noexcept { return t_; } /* for the C functions; stays ours */

  private:
    explicit table(shf_table *t) noexcept : t_(t) {}
    static int check(int rc) {
        if (rc < 0) throw error(*shf_last_error());
        return rc;
    }
    static shf_bytes bytes(std::optional<std::string_view> v) noexcept {
        if (!v) return {SHF_ABSENT, 0};
        return {v->data(), v->size()};
    }
    static shf_bytes key_bytes(std::string_view v) noexcept { return {v.data(), v.size()}; }
    /* Calls f(n, array) for the elements of a range in C's form, up to 128 at a time, while it returns true. */
    template <class T, class Range, class Make, class F> static void parts(const Range &range, Make &&make, F &&f) {
        T part[128];
        auto end = std::end(range);
        for (auto at = std::begin(range); at != end;) {
            std::size_t n = 0;
            for (; n < 128 && at != end; ++at) part[n++] = make(*at);
            if (!f(n, static_cast<const T *>(part))) return;
        }
    }
    template <class T, class Range, class Make, class F>
    static void collect(const Range &range, values &out, Make &&make, F &&call) {
        out.clear();
        parts<T>(range, make, [&](std::size_t n, const T *part) {
            for (std::size_t at = 0, done = 0; at < n; at += done)
                check(out.append(n - at, done, [&](char *buf, std::size_t cap, std::size_t *lens, std::size_t *answered) {
                    return call(n - at, part + at, buf, cap, lens, answered);
                }));
            return true;
        });
    }
    template <class F> static bool fetch_into(std::string &out, F &&call) {
        if (out.size() < out.capacity()) out.resize(out.capacity());
        for (;;) {
            std::size_t n = 0;
            int rc = check(call(out.data(), out.size(), &n));
            if (rc == SHF_TRUNCATED) {
                out.resize(n);
                continue;
            }
            out.resize(rc == SHF_OK ? n : 0);
            return rc == SHF_OK;
        }
    }
    template <class F> static std::optional<std::string> fetch(F &&call) {
        std::string out(128, '\0');
        if (!fetch_into(out, std::forward<F>(call))) return std::nullopt;
        return out;
    }
    shf_table *t_;
};

inline void unlink(const std::string &path) {
    if (shf_unlink(path.c_str()) < 0) throw error(*shf_last_error());
}

} // namespace shf
#endif
