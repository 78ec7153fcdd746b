/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* hpp_table.cpp - shf.hpp: every member, as a C++ program uses it */
#include "shf.hpp"
#include "test.h"

#include <set>
#include <type_traits>
#include <vector>

using namespace std::string_literals;
using namespace std::string_view_literals;

static_assert(!std::is_copy_constructible_v<shf::table> && std::is_nothrow_move_constructible_v<shf::table>);
static_assert(std::is_base_of_v<std::exception, shf::error>);

template <class F> static int thrown(F &&f) {
    try {
        f();
    } catch (const shf::error &e) {
        CHECK(e.what()[0] != 0 && !e.place().empty());
        return e.code();
    }
    return 0;
}

TEST(cpp_by_key) {
    auto t = shf::table::open(temp_path("a"), SHF_CREATE | SHF_EXCL);
    CHECK(t.path() == temp_path("a") && !t.read_only() && t.fd() >= 0 && t.empty());
    CHECK(!t.get("k") && !t.contains("k") && !t.remove("k") && !t.take("k") && !t.replace("k", "x"));
    auto uid = t.put("k", "value");
    CHECK(uid != 0 && t.uid("k") == uid && t.get("k") == "value" && t.contains("k"));
    auto again = t.insert("k", "other");
    CHECK(!again.created && again.uid == uid);
    CHECK(t.insert("k2", "").created && t.get("k2") == "");
    CHECK(t.replace("k", std::string(5000, 'x')) == "value");
    CHECK(t.replace("k", "\0\1"sv) == std::string(5000, 'x')); /* longer than the first buffer */
    CHECK(t.get("k") == "\0\1"s);
    CHECK(t.put("", "empty key") != 0 && t.take("") == "empty key");
    t.put("big", std::string(100000, 'b'));
    std::string out;
    CHECK(t.get_into("big", out) && out == std::string(100000, 'b'));
    CHECK(t.get_into("k2", out) && out.empty());
    CHECK(!t.get_into("zz", out) && out.empty());
    CHECK(t.take("big") == std::string(100000, 'b'));
    CHECK(!t.remove_if_equal("k2", "x") && t.remove_if_equal("k2", "") && t.remove("k"));
    CHECK(t.fetch_add("n", 5) == 0 && t.fetch_add("n", -7) == 5 && t.fetch_add("n", 0) == -2);
    t.put("s", "text");
    CHECK_EQ_INT(thrown([&] { t.fetch_add("s", 1); }), SHF_ERR_NOT_A_COUNTER);
    CHECK_EQ_INT(thrown([&] { shf::table::open(temp_path("none")); }), SHF_ERR_NOT_FOUND);
    CHECK(t.verify().problems == 0 && t.size() == 2 && t.stats().keys == 2);
    t.clear();
    CHECK(t.empty());
    int refused = thrown([&] { CHECK(t.use_huge_pages() == 0); }); /* no full 2 MiB */
    CHECK(refused == 0 || refused == SHF_ERR_UNSUPPORTED);
    shf::unlink(temp_path("a"));
    CHECK_EQ_INT(thrown([&] { shf::unlink(temp_path("a")); }), SHF_ERR_NOT_FOUND);
}

TEST(cpp_compare_exchange_and_update) {
    auto t = shf::table::anonymous("x");
    CHECK(t.path() == "memfd:x");
    auto r = t.compare_exchange("k", "old", "new");
    CHECK(!r.done && !r.present);
    CHECK(t.compare_exchange("k", std::nullopt, std::string(300, 'a')).done);
    r = t.compare_exchange("k", std::nullopt, "b");
    CHECK(!r.done && r.present == std::string(300, 'a'));
    CHECK(t.compare_exchange("k", std::string(300, 'a'), "").done && t.get("k") == "");
    CHECK(t.compare_exchange("k", ""sv, std::nullopt).done && !t.contains("k"));
    CHECK(t.compare_exchange("k", std::nullopt, std::nullopt).done);

    auto uid = t.update("u", [](auto old) -> std::optional<std::string> {
        CHECK(!old);
        return "1";
    });
    CHECK(uid && uid == t.uid("u"));
    int calls = 0;
    t.update("u", [&](std::optional<std::string_view> old) -> std::optional<std::string> {
        if (++calls == 1) t.put("u", "meddled");
        return std::string(*old) + "+";
    });
    CHECK(calls == 2 && t.get("u") == "meddled+");
    bool caught = false;
    try {
        t.update("u", [](auto) -> std::optional<std::string> { throw std::string("mine"); });
    } catch (const std::string &s) {
        caught = s == "mine";
    }
    CHECK(caught && t.get("u") == "meddled+");
    CHECK(!t.update("u", [](auto) { return std::optional<std::string>(); }) && !t.contains("u"));
}

TEST(cpp_uids_iteration_moves) {
    auto t = shf::table::anonymous("x");
    std::set<std::string> keys;
    for (int i = 0; i < 1000; i++) {
        auto k = "key " + std::to_string(i) + std::string(static_cast<std::size_t>(i % 100), '.');
        t.put(k, std::string(static_cast<std::size_t>(i), 'v'));
        keys.insert(k);
    }
    std::set<std::string> seen;
    t.for_each([&](const shf::entry &e) {
        CHECK(seen.insert(e.key).second);
        CHECK(t.get_by_uid(e.uid) == e.value && t.key_by_uid(e.uid) == e.key);
        auto c = t.checked_uid(e.key);
        CHECK(c && *c >> 32 == e.uid && t.key_by_checked_uid(*c) == e.key && t.get_by_checked_uid(*c) == e.value);
        CHECK(t.put_by_checked_uid(*c, e.value));
    });
    CHECK(seen == keys && t.size() == 1000);
    auto k = *keys.begin();
    auto c = *t.checked_uid(k);
    CHECK(t.put_by_uid(*t.uid(k), "by uid") && t.get(k) == "by uid");
    CHECK(t.remove_by_checked_uid(c) && !t.remove_by_checked_uid(c) && !t.get_by_checked_uid(c) && !t.remove_by_uid(0));
    auto u = shf::table::from_fd(t.fd());
    shf::table v = std::move(t);
    u = std::move(v); /* closes the first u */
    CHECK(u.size() == 999 && u.verify().problems == 0 && u.handle() != nullptr);
    auto o = shf::default_options();
    o.max_bytes = 1 << 20;
    auto w = shf::table::open(temp_path("o"), SHF_CREATE, &o);
    CHECK(w.stats().max_bytes == 1 << 20);
    auto r = shf::table::open(temp_path("o"), SHF_RDONLY);
    CHECK(r.read_only());
    CHECK_EQ_INT(thrown([&] { r.put("k", "v"); }), SHF_ERR_READ_ONLY);
}

TEST(cpp_many_keys_at_once) {
    for (bool fixed : {false, true}) {
        auto o = shf::default_options();
        if (fixed) o.fixed_key = 8, o.fixed_value = 12;
        auto t = shf::table::anonymous("many", &o);
        std::vector<std::string> keys;
        std::vector<std::pair<std::string, std::string>> pairs;
        for (std::size_t i = 0; i < 1000; i++) {
            keys.push_back("key " + std::to_string(1000 + i));
            std::size_t n = fixed ? 12 : i % 50 == 49 ? 20000 : i % 30;
            pairs.emplace_back(keys.back(), std::string(n, static_cast<char>('a' + i % 26)));
        }
        CHECK(t.put_many(pairs) == 1000 && t.size() == 1000);
        keys.insert(keys.begin() + 500, "key none");
        auto v = t.get_many(keys);
        CHECK(v.size() == 1001 && !v.empty() && !v[500]);
        std::vector<std::uint32_t> uids{0};
        std::vector<std::uint64_t> checked{1};
        for (std::size_t i = 0; i < 1000; i++) {
            CHECK(v[i < 500 ? i : i + 1] == pairs[i].second);
            uids.push_back(*t.uid(pairs[i].first));
            checked.push_back(*t.checked_uid(pairs[i].first));
        }
        shf::values w;
        t.get_many_by_uid_into(uids, w);
        v = t.get_many_by_checked_uid(checked);
        CHECK(w.size() == 1001 && !w[0] && v.size() == 1001 && !v[0]);
        for (std::size_t i = 0; i < 1000; i++) CHECK(w[i + 1] == pairs[i].second && v[i + 1] == pairs[i].second);
        const char *place = w[1]->data();
        t.get_many_by_uid_into(uids, w);
        CHECK(w[1]->data() == place); /* the buffer was used again */
        CHECK(t.get_many_by_uid(std::vector<std::uint32_t>()).empty());
        CHECK(t.remove_many(keys) == 1000 && t.remove_many(keys) == 0 && t.empty() && t.verify().problems == 0);
        CHECK(t.put_many({{"twice  1", "the first  1"}, {"twice  1", "the second 2"}}) == 2);
        auto u = t.get_many({"twice  1", "nobody 1"});
        CHECK(u[0] == "the second 2" && !u[1] && t.remove_many({"twice  1", "twice  1"}) == 1);
        if (!fixed) continue;
        pairs[200].second += "x";
        CHECK(t.put_many(pairs) == 200);
        pairs.erase(pairs.begin(), pairs.begin() + 200);
        CHECK_EQ_INT(thrown([&] { t.put_many(pairs); }), SHF_ERR_WRONG_LENGTH);
        keys[300] = "short";
        CHECK_EQ_INT(thrown([&] { t.get_many_into(keys, w); }), SHF_ERR_WRONG_LENGTH);
        CHECK(w.empty() && t.size() == 200);
        CHECK_EQ_INT(thrown([&] { t.remove_many(keys); }), SHF_ERR_WRONG_LENGTH);
        CHECK(t.empty()); /* those before the wrong one */
    }
}

int main(int argc, char **argv) { return run(argc, argv); }
