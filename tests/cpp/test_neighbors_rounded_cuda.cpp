// Candidates from products of rounded rows, and their decision, on the host.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "neighbors/candidate_decision.hpp"
#include "neighbors/tile_lists.hpp"
#include "neighbors_on_host.hpp"

using namespace cliquesim;
using namespace cliquesim::test;

namespace {

struct Rounded {
    std::vector<double> integers;
    std::vector<RoundedRow> rows;
};

// As _rounded_cuda.py rounds; `most` is 4095 there, and less here for wider bounds.
Rounded round_rows(const std::vector<float>& X, std::int64_t n, std::int64_t dimensions,
                   double most) {
    Rounded out{std::vector<double>(X.size()), std::vector<RoundedRow>(size(n))};
    for (std::int64_t i = 0; i < n; ++i) {
        double squares = 0, largest = 0, error = 0, back = 0;
        for (std::int64_t d = 0; d < dimensions; ++d) {
            const double x = X[size(i * dimensions + d)];
            squares += x * x;
            largest = std::max(largest, std::abs(x));
        }
        const double length = std::sqrt(squares);
        const double factor =
            length < 0x1p-60
                ? 0
                : std::min((most - std::sqrt(double(dimensions)) / 2) / length, 2048 / largest);
        const float scale = factor > 0 ? static_cast<float>(1 / factor) : 0;
        for (std::int64_t d = 0; d < dimensions; ++d) {
            const double x = X[size(i * dimensions + d)], q = std::nearbyint(x * factor);
            out.integers[size(i * dimensions + d)] = q;
            error += (x - q * scale) * (x - q * scale);
            back += q * scale * q * scale;
        }
        const double longest = std::max(length, std::sqrt(back));
        const double share = (double(dimensions) / 32 + 64) * 0x1p-24, above = 1 + 0x1p-20;
        out.rows[size(i)] = {scale,
                             static_cast<float>((std::sqrt(error) + share * longest) * above),
                             static_cast<float>(longest * above)};
    }
    return out;
}

std::vector<float> integer_products(const Rounded& a, const Rounded& b, std::int64_t dimensions) {
    std::vector<float> out;
    bool exact = true;
    for (std::size_t i = 0; i < a.rows.size(); ++i)
        for (std::size_t j = 0; j < b.rows.size(); ++j) {
            double sum = 0;
            for (std::size_t d = 0; d < size(dimensions); ++d)
                sum += a.integers[i * size(dimensions) + d] * b.integers[j * size(dimensions) + d];
            exact = exact && std::abs(sum) < 0x1p24;
            out.push_back(static_cast<float>(sum));
        }
    REQUIRE(exact);
    return out;
}

// In the order of the kernel.
float product(const std::vector<float>& X, const std::vector<float>& Y, std::int64_t i,
              std::int64_t j, std::int64_t dimensions) {
    float lanes[32] = {}, sum = 0;
    for (std::int64_t d = 0; d < dimensions; ++d)
        lanes[d % 32] += X[size(i * dimensions + d)] * Y[size(j * dimensions + d)];
    for (const float lane : lanes) sum += lane;
    return sum;
}

std::vector<float> made_rows(const std::string& kind, std::int64_t n, std::int64_t dimensions,
                             std::mt19937& random) {
    std::normal_distribution<float> normal;
    std::vector<float> X(size(n * dimensions));
    for (float& x : X) x = normal(random);
    const std::vector<float> first(X.begin(), X.begin() + dimensions);
    for (std::int64_t i = 0; i < n; ++i) {
        float* x = X.data() + i * dimensions;
        const float size_of_row = std::pow(10.0f, 3 * normal(random));
        for (std::int64_t d = 0; d < dimensions; ++d) {
            if (kind == "norms") x[d] *= size_of_row;
            if (kind == "peaky" && d != i % dimensions) x[d] *= 1e-3f;
            if (kind == "zeros" && i % 3 == 0) x[d] = 0;
            if (kind == "near ties") x[d] = first[size(d)] + 1e-3f * x[d];
            if (kind == "duplicates" && i % 4 != 0) x[d] = X[size(i / 9 * 4 % n * dimensions + d)];
        }
    }
    return X;
}

struct Case {
    std::string kind;
    std::int64_t n, m, dimensions, k, n_bottom, room, edge;  // m: queries, or 0
    double most;
};

struct Counts {
    std::int64_t certain = 0, uncertain = 0, decided = 0;
};

// Every row that is called certain has the list that all float32 products give.
Counts check_lists(const Case& c, std::mt19937& random) {
    const bool symmetric = c.m == 0;
    const std::int64_t rows = symmetric ? c.n : c.m;
    const auto Y = made_rows(c.kind, c.n, c.dimensions, random);
    const auto X = symmetric ? Y : made_rows(c.kind, c.m, c.dimensions, random);
    const Rounded cols_rounded = round_rows(Y, c.n, c.dimensions, c.most);
    const Rounded rows_rounded = round_rows(X, rows, c.dimensions, c.most);
    const auto values = integer_products(rows_rounded, cols_rounded, c.dimensions);
    std::vector<std::int64_t> groups(size(std::max(rows, c.n)));
    for (auto& group : groups) group = static_cast<std::int64_t>(random() % 7);
    const Exclusion excluded{symmetric, groups.data(), groups.data(), symmetric ? 30 : -1};
    HostEnd ends[] = {HostEnd(rows, c.k > 0 ? c.room : 0, 1, 2 * c.edge),
                      HostEnd(rows, c.n_bottom > 0 ? c.room : 0, -1, 2 * c.edge)};
    for (std::int64_t row = 0; row < rows; row += c.edge)
        for (std::int64_t col = symmetric ? row : 0; col < c.n; col += c.edge) {
            DeviceTile tile{values.data() + row * c.n + col,
                            nullptr,
                            c.n,
                            std::min(c.edge, rows - row),
                            std::min(c.edge, c.n - col),
                            row,
                            col,
                            symmetric && row != col,
                            excluded};
            tile.rounded_rows = rows_rounded.rows.data();
            tile.rounded_cols = cols_rounded.rows.data();
            run_step({tile, {ends[0].view(), ends[1].view()}}, random);
        }
    Counts counts;
    const auto buffer = uninitialised<DecisionBuffer>();
    for (HostEnd& listed : ends) {
        const std::int64_t k = listed.sign > 0 ? c.k : c.n_bottom;
        if (k == 0) continue;
        HostEnd best(rows, k, listed.sign, 0);
        std::vector<std::int32_t> decided(size(rows), 0);
        const CandidateDecision all{X.data(),         Y.data(),           rows,
                                    c.dimensions,     listed.keys.data(), listed.k,
                                    best.view().best, listed.sign,        decided.data()};
        for (std::int64_t i = 0; i < rows; ++i) {
            decide_row(all, i, *buffer, HostBlock{merge_threads, random});
            counts.decided += std::abs(decided[size(i)]);
            std::vector<std::uint64_t> expected(size(k), 0);
            bool within = true;
            for (std::int64_t j = 0; j < c.n; ++j) {
                const float s = product(X, Y, i, j, c.dimensions);
                const RoundedRow &a = rows_rounded.rows[size(i)], &b = cols_rounded.rows[size(j)];
                const float scaled = scaled_product(a, b, values[size(i * c.n + j)]);
                within = within && std::abs(s - scaled) <= product_margin(a, b);
                if (!excluded(i, j))
                    expected.push_back(candidate_key(listed.sign * s, candidate_code(j, false)));
            }
            CHECK(within);
            if (decided[size(i)] < 0) {
                ++counts.uncertain;
                continue;
            }
            ++counts.certain;
            std::sort(expected.rbegin(), expected.rend());
            CHECK(std::equal(expected.begin(), expected.begin() + k, &best.keys[size(i * k)]));
        }
    }
    return counts;
}

}  // namespace

TEST_CASE("rows that rounded products leave certain have float32's lists") {
    std::mt19937 random(3);
    for (const char* kind : {"gaussian", "norms", "peaky", "zeros", "near ties", "duplicates"})
        for (const std::int64_t dimensions : {1, 33, 70})
            for (const std::int64_t room : {8, 60}) {
                CAPTURE(kind);
                CAPTURE(dimensions);
                CAPTURE(room);
                const std::int64_t edge = 40 + static_cast<std::int64_t>(random() % 100);
                check_lists({kind, 190, 0, dimensions, 7, 3, room, edge, 4095}, random);
                check_lists({kind, 150, 40, dimensions, 5, 0, room, edge, 4095}, random);
                check_lists({kind, 150, 0, dimensions, 5, 8, room, edge, 300}, random);
            }
}

TEST_CASE("few candidates decide ordinary rows, and too few are noticed") {
    std::mt19937 random(4);
    const Counts roomy = check_lists({"gaussian", 300, 0, 64, 5, 5, 84, 90, 4095}, random);
    CHECK(roomy.uncertain == 0);
    CHECK(roomy.decided <= 600 * 32);
    const Counts coarse = check_lists({"gaussian", 300, 0, 64, 5, 5, 84, 90, 60}, random);
    CHECK(coarse.certain > 0);
    CHECK(coarse.decided > roomy.decided);
    const Counts narrow = check_lists({"near ties", 300, 0, 64, 5, 5, 12, 90, 4095}, random);
    CHECK(narrow.uncertain > 300);
    const Counts whole = check_lists({"near ties", 60, 0, 64, 5, 5, 59, 90, 300}, random);
    CHECK(whole.uncertain == 0);  // all rows are listed
}

TEST_CASE("some rows among all have the lists that they have among all") {
    std::mt19937 random(5);
    const std::int64_t n = 200, k = 9;
    const auto X = whole_numbers(random, n, 3);
    std::vector<float> values;
    for (const float x : X)
        for (const float y : X) values.push_back(x * y);
    std::vector<std::int64_t> groups(size(n)), ids;
    for (auto& group : groups) group = static_cast<std::int64_t>(random() % 3);
    for (std::int64_t i = 1; i < n; i += 1 + static_cast<std::int64_t>(random() % 5))
        ids.push_back(i);
    const auto count = static_cast<std::int64_t>(ids.size());
    std::vector<float> some;
    for (const std::int64_t i : ids)
        some.insert(some.end(), values.begin() + i * n, values.begin() + (i + 1) * n);
    const Exclusion excluded{true, groups.data(), groups.data(), 25};
    HostEnd top(n, k, 1, 2 * n), bottom(n, k, -1, 2 * n);
    const DeviceTile all{values.data(), nullptr, n, n, n, 0, 0, false, excluded};
    run_step({all, {top.view(), bottom.view()}}, random);
    HostEnd some_top(count, k, 1, 2 * n), some_bottom(count, k, -1, 2 * n);
    DeviceTile tile{some.data(), nullptr, n, count, n, 0, 0, false, excluded};
    tile.row_ids = ids.data();
    run_step({tile, {some_top.view(), some_bottom.view()}}, random);
    for (std::int64_t i = 0; i < count; ++i) {
        const std::int64_t at = ids[size(i)] * k;
        CHECK(
            std::equal(&top.keys[size(at)], &top.keys[size(at)] + k, &some_top.keys[size(i * k)]));
        CHECK(std::equal(&bottom.keys[size(at)], &bottom.keys[size(at)] + k,
                         &some_bottom.keys[size(i * k)]));
    }
}

TEST_CASE("an infinite margin lets nothing into a list of nothing") {
    std::mt19937 random(6);
    const std::int64_t n = 20, k = 3;
    const std::vector<float> values(size(n * n), 0.0f);
    const std::vector<RoundedRow> unrounded(size(n), {0, 0x1.8p63f, 0x1.8p63f});
    HostEnd top(n, k, 1, 2 * n), bottom(n, 0, -1, 2 * n);
    DeviceTile tile{values.data(), nullptr, n, n, n, 0, 0, false, {true, nullptr, nullptr, -1}};
    tile.rounded_rows = tile.rounded_cols = unrounded.data();
    REQUIRE(product_margin(unrounded[0], unrounded[1]) == infinite_score);
    for (int tiles = 0; tiles < 2; ++tiles) {
        run_step({tile, {top.view(), bottom.view()}}, random);
        CHECK(
            std::all_of(bottom.counts.begin(), bottom.counts.end(), [](int c) { return c == 0; }));
    }
    for (std::int64_t i = 0; i < n; ++i) {
        CHECK(key_score(top.keys[size(i * k)]) == infinite_score);
        CHECK(top.bounds[size(i)] == infinite_score);
    }
}
