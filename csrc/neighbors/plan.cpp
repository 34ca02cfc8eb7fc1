#include "neighbors/plan.hpp"

#include <algorithm>
#include <array>
#include <string>

#include "common/errors.hpp"
#include "neighbors/int16_products.hpp"

namespace cliquesim {

namespace {

// int16 products pay where they save more than the float32 products of what they let pass. One of
// these takes the time of about 12 in a tile.
constexpr std::int64_t least_depth = 512;
constexpr std::int64_t rows_per_neighbor = 48;

void check(const NeighborSearch& search, bool symmetric) {
    const std::int64_t n = search.corpus.rows;
    require(n < 0x7fffffff, "X may have at most 2^31 - 2 rows");
    require(search.corpus.cols > 0, "X must have at least one column");
    require(symmetric || search.queries.cols == search.corpus.cols,
            "queries must have as many columns as X");
    require(search.mirrored.data == nullptr ||
                (search.mirrored.rows == n && search.mirrored.cols == search.corpus.cols),
            "mirrored must have the shape of X");
    require(search.groups.empty() || static_cast<std::int64_t>(search.groups.size()) == n,
            "groups must have one label per row of X");
    require(search.query_groups.empty() ||
                static_cast<std::int64_t>(search.query_groups.size()) == search.queries.rows,
            "query_groups must have one label per query");
    require(search.sequences.empty() || static_cast<std::int64_t>(search.sequences.size()) == n,
            "sequences must have one label per row of X");
    require(search.pool_radius >= 0, "pool_radius must be at least 0");
    require(search.memory_limit >= 0, "memory_limit must be at least 0");
    const bool grouped = (!search.groups.empty() || !search.sequences.empty()) &&
                         (symmetric || !search.query_groups.empty());
    require(
        search.pool_radius == 0 || grouped || n == 0 || (!symmetric && search.queries.rows == 0),
        "pool_radius needs groups (and query_groups): the sequences to pool within");
}

// Bytes of every plan.
class Sizes {
  public:
    Sizes(const NeighborSearch& search, std::int64_t k, std::int64_t n_bottom, int threads)
        : search_(search), symmetric_(search.queries.data == nullptr) {
        const std::int64_t depth = search.corpus.cols;
        const std::int64_t halo = SearchWindows(search).halo;
        const RowBlocks corpus(search.corpus.rows, depth, halo);
        const std::int64_t rows = symmetric_ ? search.corpus.rows : search.queries.rows;
        const auto per_row = [](std::int64_t kept) {
            return CandidateTable::capacity_of(kept) *
                       static_cast<std::int64_t>(sizeof(Candidate)) +
                   (kept > 0 ? 20 : 0);
        };
        tables_ = rows * (per_row(k) + per_row(n_bottom));
        const std::int64_t edge = edge_ = corpus.edge();
        const std::int64_t tiles = search.mirrored.data != nullptr ? 4 : halo > 0 ? 2 : 1;
        const auto found = static_cast<std::int64_t>(2 * sizeof(FoundCandidate));
        scratch_ = threads * edge * (tiles * (edge + 64) * 4 + edge * found);
        panels_ = threads * 2 * edge * panel_depth(depth) * 4;
        const std::int64_t held =
            CandidateTable::capacity_of(k) + CandidateTable::capacity_of(n_bottom);
        int16_ = threads * blocks_together * edge * held *
                 static_cast<std::int64_t>(2 * sizeof(SimilarityTiles::Unresolved));
        for (const auto& view : {search.corpus, search.queries, search.mirrored}) {
            if (view.data == nullptr) continue;
            const RowBlocks blocks(view.rows, depth, halo);
            kept_ += FloatPanels::kept_bytes(blocks, depth);
            int16_ += Int16Panels::kept_bytes(blocks, depth) + 8 * view.rows;
            if (search.correlation) int16_ += view.rows * depth * 4;
        }
    }

    std::int64_t of(const TilePlan& plan) const {
        return tables_ + scratch_ + (plan.keep_panels ? kept_ : panels_) +
               (plan.int16 ? int16_ : 0);
    }

    // The similarities of a block of rows to all.
    std::int64_t one_block() const { return edge_ * search_.corpus.rows * 4; }

  private:
    const NeighborSearch& search_;
    bool symmetric_;
    std::int64_t edge_ = 0;
    std::int64_t tables_ = 0, scratch_ = 0, panels_ = 0, kept_ = 0, int16_ = 0;
};

bool int16_pays(const NeighborSearch& search, std::int64_t k, std::int64_t n_bottom) {
    const std::int64_t n = search.corpus.rows;
    const bool many = search.queries.data == nullptr || search.queries.rows >= 64;
    // A pooled similarity takes a window of products again.
    const std::int64_t again = 2 * SearchWindows(search).halo;
    return has_vnni() && many && search.corpus.cols >= least_depth &&
           n / rows_per_neighbor / std::max<std::int64_t>(again, 1) >=
               std::min(k, n) + std::min(n_bottom, n);
}

// The first plan that fits, or an error that says what the last one needs.
SearchPlan first_fitting(const NeighborSearch& search, std::span<const TilePlan> plans,
                         const Sizes& sizes, std::int64_t more = 0) {
    for (const TilePlan& plan : plans) {
        const std::int64_t bytes = sizes.of(plan) + more;
        if (search.memory_limit == 0 || bytes <= search.memory_limit) return {plan, bytes};
    }
    throw std::invalid_argument("memory_limit is " + std::to_string(search.memory_limit) +
                                " bytes, but this search needs " +
                                std::to_string(sizes.of(plans.back()) + more) +
                                " beside its input and output");
}

constexpr TilePlan with_int16{true, false}, float32_kept{false, true}, float32_small{};

}  // namespace

SearchPlan plan_search(const NeighborSearch& search, std::int64_t k, std::int64_t n_bottom,
                       int threads) {
    check(search, search.queries.data == nullptr);
    const Sizes sizes(search, k, n_bottom, threads);
    const bool forced = search.precision == Precision::int16;
    const bool wanted =
        forced || (search.precision == Precision::automatic && int16_pays(search, k, n_bottom));
    const std::array plans{with_int16, float32_kept, float32_small};
    const std::span<const TilePlan> all(plans);
    return first_fitting(search, forced ? all.first(1) : all.subspan(wanted ? 0 : 1), sizes);
}

SearchPlan plan_quantiles(const NeighborSearch& search, int threads) {
    check(search, search.queries.data == nullptr);
    const Sizes sizes(search, 0, 0, threads);
    const std::array plans{float32_kept, float32_small};
    return first_fitting(search, plans, sizes, sizes.one_block());
}

Exclusion exclusion_of(const NeighborSearch& search) {
    const auto labels = [](std::span<const std::int64_t> groups) {
        return groups.empty() ? nullptr : groups.data();
    };
    const bool symmetric = search.queries.data == nullptr;
    return {symmetric, labels(symmetric ? search.groups : search.query_groups),
            labels(search.groups), search.group_window};
}

}  // namespace cliquesim
