// The CUDA kernels of the neighbours, run on the host thread by thread in a random order.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "neighbors/neighbors.hpp"
#include "neighbors/order_statistics.hpp"
#include "neighbors/plan.hpp"
#include "neighbors/tile_lists.hpp"
#include "neighbors_on_host.hpp"

using namespace cliquesim;
using namespace cliquesim::test;

namespace {

// All similarities of some rows to others.
std::vector<float> products(MatrixView<const float> rows, MatrixView<const float> cols) {
    std::vector<float> out(size(rows.rows * cols.rows));
    for (std::int64_t i = 0; i < rows.rows; ++i)
        for (std::int64_t j = 0; j < cols.rows; ++j) {
            float sum = 0;
            for (std::int64_t d = 0; d < rows.cols; ++d) sum += rows(i, d) * cols(j, d);
            out[size(i * cols.rows + j)] = sum;
        }
    return out;
}

struct Lists {
    Lists(std::int64_t rows_, std::int64_t k_, std::int64_t n_bottom_)
        : rows(rows_),
          k(k_),
          n_bottom(n_bottom_),
          indices(size(rows * k)),
          bottom_indices(size(rows * n_bottom)),
          similarities(size(rows * k)),
          bottom_similarities(size(rows * n_bottom)),
          flips(new bool[size(rows * k)]()),
          bottom_flips(new bool[size(rows * n_bottom)]()) {}

    NeighborOutput output(bool top) {
        return top ? NeighborOutput{rows, k, indices.data(), similarities.data(), flips.get()}
                   : NeighborOutput{rows, n_bottom, bottom_indices.data(),
                                    bottom_similarities.data(), bottom_flips.get()};
    }

    void check_equal(const Lists& other) const {
        CHECK(indices == other.indices);
        CHECK(bottom_indices == other.bottom_indices);
        CHECK(similarities == other.similarities);
        CHECK(bottom_similarities == other.bottom_similarities);
        CHECK(std::equal(flips.get(), flips.get() + rows * k, other.flips.get()));
        CHECK(std::equal(bottom_flips.get(), bottom_flips.get() + rows * n_bottom,
                         other.bottom_flips.get()));
    }

    std::int64_t rows, k, n_bottom;
    std::vector<std::int64_t> indices, bottom_indices;
    std::vector<float> similarities, bottom_similarities;
    std::unique_ptr<bool[]> flips, bottom_flips;
};

Lists on_cpu(const NeighborSearch& search, std::int64_t k, std::int64_t n_bottom) {
    const std::int64_t rows = search.queries.data ? search.queries.rows : search.corpus.rows;
    Lists found(rows, k, n_bottom);
    NeighborLists out{{found.indices.data(), rows, k},
                      {found.similarities.data(), rows, k},
                      {found.bottom_indices.data(), rows, n_bottom},
                      {found.bottom_similarities.data(), rows, n_bottom},
                      {},
                      {}};
    if (search.mirrored.data != nullptr) {
        out.flips = {found.flips.get(), rows, k};
        out.bottom_flips = {found.bottom_flips.get(), rows, n_bottom};
    }
    find_neighbors(search, out, Context{1, nullptr});
    return found;
}

Lists on_device(const NeighborSearch& search, std::int64_t k, std::int64_t n_bottom,
                std::int64_t edge, std::mt19937& random) {
    const bool symmetric = search.queries.data == nullptr;
    const MatrixView<const float> queries = symmetric ? search.corpus : search.queries;
    const std::int64_t rows = queries.rows, cols = search.corpus.rows;
    const bool both = symmetric && search.mirrored.data == nullptr;
    const std::vector<float> plain = products(queries, search.corpus);
    std::vector<float> mirrored;
    if (search.mirrored.data != nullptr) mirrored = products(queries, search.mirrored);
    const std::int64_t most = cols - (symmetric ? 1 : 0);
    HostEnd top(rows, std::min(k, most), 1, 2 * edge);
    HostEnd bottom(rows, std::min(n_bottom, most), -1, 2 * edge);
    std::vector<std::pair<std::int64_t, std::int64_t>> tiles;
    for (std::int64_t row = 0; row < rows; row += edge)
        for (std::int64_t col = both ? row : 0; col < cols; col += edge)
            tiles.emplace_back(row, col);
    std::shuffle(tiles.begin(), tiles.end(), random);
    for (const auto& [row, col] : tiles) {
        const std::int64_t at = row * cols + col;
        const DeviceTile tile{plain.data() + at,
                              mirrored.empty() ? nullptr : mirrored.data() + at,
                              cols,
                              std::min(edge, rows - row),
                              std::min(edge, cols - col),
                              row,
                              col,
                              both && row != col,
                              exclusion_of(search)};
        run_step({tile, {top.view(), bottom.view()}}, random);
    }
    Lists found(rows, k, n_bottom);
    for (HostEnd* end : {&top, &bottom}) {
        CHECK(std::count(end->counts.begin(), end->counts.end(), 0) == 2 * edge);
        const NeighborOutput out = found.output(end == &top);
        for (std::int64_t i = 0; i < out.rows * out.cols; ++i)
            write_neighbor(end->view().best, end->sign, out, i);
    }
    return found;
}

}  // namespace

TEST_CASE("the CUDA kernels list the CPU's neighbours, ties too") {
    for (unsigned seed = 0; seed < 24; ++seed) {
        std::mt19937 random(seed);
        const std::int64_t n = seed % 8 == 7 ? 700 : 30 + random() % 150, dimensions = 4;
        const std::int64_t ks[] = {1, 5, 64, 65, 0, 400};
        const std::int64_t k = ks[seed % 6], n_bottom = ks[(seed + 2) % 6];
        const int most = seed % 5 == 4 ? 0 : 1 + static_cast<int>(seed % 4);  // 0: all are equal
        const auto X = whole_numbers(random, n * dimensions, most);
        const auto M = whole_numbers(random, n * dimensions, most);
        const auto Q = whole_numbers(random, 57 * dimensions, most);
        std::vector<std::int64_t> groups(size(n)), query_groups(57);
        for (auto& group : groups) group = static_cast<std::int64_t>(random() % 5);
        for (auto& group : query_groups) group = static_cast<std::int64_t>(random() % 5);
        NeighborSearch search;
        search.corpus = {X.data(), n, dimensions};
        if (seed % 3 == 1) search.queries = {Q.data(), 57, dimensions};
        if (seed % 4 == 2) search.mirrored = {M.data(), n, dimensions};
        if (seed % 2 == 0) search.groups = groups;
        if (seed % 2 == 0 && seed % 3 == 1) search.query_groups = query_groups;
        if (seed % 2 == 0 && seed % 3 == 2) search.group_window = 20;
        const Lists expected = on_cpu(search, k, n_bottom);
        for (const std::int64_t edge : {n, std::int64_t{40}, std::int64_t{300}}) {
            CAPTURE(seed);
            CAPTURE(edge);
            on_device(search, k, n_bottom, edge, random).check_equal(expected);
        }
    }
}

TEST_CASE("lists that overflow in every tile are right: each tile is better than the last") {
    const std::int64_t n = 900;
    std::vector<float> X(size(n));
    for (std::int64_t i = 0; i < n; ++i) X[size(i)] = static_cast<float>(i + 1);
    NeighborSearch search;
    search.corpus = {X.data(), n, 1};
    std::mt19937 random(1);
    for (const std::int64_t k : {3, 300}) {
        const Lists expected = on_cpu(search, k, k);
        on_device(search, k, k, 280, random).check_equal(expected);
    }
}

TEST_CASE("more candidates of a tile than there is room for") {
    const std::int64_t n = 3 * fresh_room + 5;
    std::mt19937 random(2);
    const auto X = whole_numbers(random, n * 6, 9);
    NeighborSearch search;
    search.corpus = {X.data(), n, 6};
    on_device(search, 2, 70, n, random).check_equal(on_cpu(search, 2, 70));
}

TEST_CASE("the CUDA kernel's quantiles are the CPU's") {
    for (unsigned seed = 0; seed < 12; ++seed) {
        std::mt19937 random(seed);
        const std::int64_t n = seed == 0 ? 1 : 2 + random() % 700, dimensions = 3;
        auto X = whole_numbers(random, n * dimensions, seed % 3 == 0 ? 1 : 40);
        auto M = whole_numbers(random, n * dimensions, 3);
        std::vector<std::int64_t> groups(size(n));
        for (auto& group : groups) group = static_cast<std::int64_t>(random() % 3);
        NeighborSearch search;
        search.corpus = {X.data(), n, dimensions};
        if (seed % 4 == 1) search.mirrored = {M.data(), n, dimensions};
        if (seed % 2 == 1) search.groups = groups;
        const std::vector<double> levels{0, 0, 0.013, 0.5, 0.731, 0.99, 1};
        const auto count = static_cast<std::int64_t>(levels.size());
        std::vector<float> expected(size(n * count)), found(size(n * count), -7.0f);
        similarity_quantiles(search, levels, {expected.data(), n, count}, Context{1, nullptr});
        const auto buffer = uninitialised<SelectionBuffer>();
        std::vector<float> mirrored;
        if (search.mirrored.data != nullptr) mirrored = products(search.corpus, search.mirrored);
        std::vector<float> values = products(search.corpus, search.corpus);
        for (std::int64_t first = 0; first < n; first += 50) {  // a tile of whole rows
            const DeviceTile tile{values.data() + first * n,
                                  mirrored.empty() ? nullptr : mirrored.data() + first * n,
                                  n,
                                  std::min<std::int64_t>(50, n - first),
                                  n,
                                  first,
                                  0,
                                  false,
                                  exclusion_of(search)};
            const QuantileRows rows{tile, values.data() + first * n, levels.data(), count,
                                    found.data()};
            for (std::int64_t a = 0; a < tile.rows; ++a)
                row_quantiles(rows, a, *buffer, HostBlock{selection_threads, random});
        }
        for (std::size_t i = 0; i < found.size(); ++i) {
            if (std::isnan(expected[i]))
                CHECK(std::isnan(found[i]));
            else
                CHECK(found[i] == expected[i]);
        }
    }
}
