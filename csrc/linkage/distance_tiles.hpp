// Distances above the diagonal, tile by tile: read where they are stored, or computed on the fly.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "common/thread_pool.hpp"
#include "linkage/upper_rows.hpp"

namespace cliquesim {

// A tile is a band of rows by a stretch of columns; a stretch is a few consecutive bands.
template <typename S>
class DistanceTiles {
  public:
    virtual ~DistanceTiles() = default;

    std::int64_t size() const { return bands_.back(); }
    // Band b has rows [bands()[b], bands()[b + 1]).
    const std::vector<std::int64_t>& bands() const { return bands_; }
    std::int64_t num_bands() const { return static_cast<std::int64_t>(bands_.size()) - 1; }
    std::int64_t bands_per_stretch() const { return bands_per_stretch_; }

    // What the worker may read until its next call: row(i)[j] for i in the band and j in the
    // stretch of bands [first, last), i < j.
    virtual UpperRows<const S> tile(std::int64_t band, std::int64_t first, std::int64_t last,
                                    int worker) = 0;

    // Upper estimates of every row's 64th smallest distance, more or less; infinity where there
    // is none.
    virtual std::vector<ValueOf<S>> estimate_limits(ThreadPool& pool) = 0;

  protected:
    std::vector<std::int64_t> bands_;
    std::int64_t bands_per_stretch_ = 1;
};

// Calls body(band, first, last, worker) for every tile that reaches above the diagonal.
template <typename S, typename Body>
void for_each_tile(const DistanceTiles<S>& tiles, ThreadPool& pool, double progress_from,
                   double progress_to, const Body& body) {
    struct Tile {
        std::int32_t band, first, last;
    };
    std::vector<Tile> work;
    const std::int64_t count = tiles.num_bands(), step = tiles.bands_per_stretch();
    for (std::int64_t b = 0; b < count; ++b)
        for (std::int64_t first = b / step * step; first < count; first += step)
            work.push_back({static_cast<std::int32_t>(b), static_cast<std::int32_t>(first),
                            static_cast<std::int32_t>(std::min(count, first + step))});
    pool.parallel_for(
        static_cast<std::int64_t>(work.size()),
        [&](std::int64_t t, int worker) {
            const Tile& one = work[static_cast<std::size_t>(t)];
            body(std::int64_t{one.band}, std::int64_t{one.first}, std::int64_t{one.last}, worker);
        },
        1, progress_from, progress_to);
}

template <typename S>
class StoredTiles final : public DistanceTiles<S> {
  public:
    explicit StoredTiles(const UpperRows<const S>& rows);
    UpperRows<const S> tile(std::int64_t, std::int64_t, std::int64_t, int) override {
        return rows_;
    }
    std::vector<ValueOf<S>> estimate_limits(ThreadPool& pool) override;

  private:
    UpperRows<const S> rows_;
};

}  // namespace cliquesim
