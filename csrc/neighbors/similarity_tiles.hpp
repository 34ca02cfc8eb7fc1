// Tiles of similarities, exact or from int16 products, plain or pooled or mirrored; and single
// similarities, the same to the last bit as in an exact tile.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "common/thread_pool.hpp"
#include "neighbors/candidates.hpp"
#include "neighbors/float_panels.hpp"
#include "neighbors/int16_panels.hpp"
#include "neighbors/neighbors.hpp"
#include "neighbors/pool_tile.hpp"
#include "neighbors/row_blocks.hpp"
#include "neighbors/tile_scan.hpp"
#include "temporal/sequences.hpp"

namespace cliquesim {

// The windows of Eq. (9) that every row has of its own, and the longest reach that a pair can
// share.
struct SearchWindows {
    explicit SearchWindows(const NeighborSearch& search);

    SequenceReach corpus, queries;  // empty without pooling
    std::int64_t halo = 0;
};

// How the products are made, and what is held for that.
struct TilePlan {
    bool int16 = false;
    bool keep_panels = false;  // else every tile packs its rows again
};

class SimilarityTiles {
  public:
    // What one thread needs for a tile.
    struct Scratch {
        AlignedBuffer<float> row_panels, col_panels, products, pooled[2], combined;
        TilePooling pooling;
    };
    // A mirrored similarity is s_ij = max(x_i . x_j, x_i . m_j): what a tile says of its rows'
    // neighbours is not what it says of its columns' then.
    enum class Serves { both, rows, cols };

    SimilarityTiles(const NeighborSearch& search, const TilePlan& plan, ThreadPool& pool);

    bool symmetric() const { return symmetric_; }
    bool mirrored() const { return search_.mirrored.data != nullptr; }
    bool int16() const { return int16_; }
    double margin() const { return margin_; }
    const RowBlocks& row_blocks() const { return row_side().blocks; }
    const RowBlocks& col_blocks() const { return corpus_.blocks; }

    // With `int16` the tile's margin is not 0. Valid until the next call with the same scratch.
    SimilarityTile tile(std::int64_t row_block, std::int64_t col_block, Serves serves, bool int16,
                        Scratch& scratch) const;

    // Replaces intervals by similarities; gives how many products that took. For the negated
    // similarities of a bottom list `sign` is -1. Best given in the order of their rows.
    struct Unresolved {
        std::int64_t row;
        Candidate* candidate;
        float sign;
    };
    std::int64_t resolve(std::span<const Unresolved> unresolved) const;

  private:
    struct Side {
        MatrixView<const float> rows;
        std::vector<float> standardized;
        RowBlocks blocks;
        FloatPanels floats;
        Int16Panels int16s;
        SequenceReach reach;
        std::vector<float> lengths;  // the longest row of each row's window
    };
    struct Products {
        float* values;
        std::int64_t stride;
    };

    const Side& row_side() const { return symmetric_ ? corpus_ : queries_; }
    void prepare(Side& side, const TilePlan& plan, ThreadPool& pool) const;
    bool round_to_int16(ThreadPool& pool);
    Reach window(std::int64_t row, std::int64_t col) const;
    std::int64_t resolve_group(std::span<const Unresolved> group) const;
    std::int64_t group_means(const Side& side, std::span<const Unresolved> group,
                             float* means) const;
    Products products(const Side& row_side, std::int64_t row_block, const Side& col_side,
                      std::int64_t col_block, bool upper_only, bool int16, int slot,
                      Scratch& scratch) const;

    NeighborSearch search_;
    bool symmetric_;
    bool int16_ = false;
    std::int64_t halo_ = 0;
    double margin_ = 0;
    Side corpus_, queries_, mirrored_;
    std::vector<float> either_lengths_;  // of a corpus row or its mirror image
};

}  // namespace cliquesim
