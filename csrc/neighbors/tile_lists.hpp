// The CUDA kernels of the neighbours without their launches: a tile of similarities serves the
// lists of its rows and its columns. First every similarity is compared with the bounds of its row
// and its column, and what passes is appended to their fresh candidates. Then a block per list
// merges them; where more passed than there is room for, and in the first tile of a row, it reads
// the list's similarities again, as many at a time as fit.
#pragma once

#include <cstdint>

#include "common/atomics.hpp"
#include "common/host_device.hpp"
#include "neighbors/candidate_key.hpp"
#include "neighbors/exclusion.hpp"
#include "neighbors/list_merge.hpp"
#include "neighbors/rounded_products.hpp"

namespace cliquesim {

// Device pointers on the device, host pointers in the test. Of rounded rows the values are integer
// products, and the lists are by the greatest scores that there may be.
struct DeviceTile {
    const float* values;
    const float* mirrored;  // or null: the similarity is the greater of the two
    std::int64_t stride;    // of both
    std::int64_t rows, cols;
    std::int64_t first_row, first_col;  // their indices
    bool serves_cols;                   // without mirror images
    Exclusion excluded;
    const RoundedRow* rounded_rows = nullptr;  // both of all rows, or neither
    const RoundedRow* rounded_cols = nullptr;
    const std::int64_t* row_ids = nullptr;  // of the listed rows among all; null: they are all

    CLIQUESIM_HOST_DEVICE std::int64_t lists() const { return rows + (serves_cols ? cols : 0); }

    CLIQUESIM_HOST_DEVICE bool excludes(std::int64_t row, std::int64_t col) const {
        return excluded(row_ids == nullptr ? row : row_ids[row], col);
    }
};

// The most similar (sign 1) or the least similar (sign -1: scores are negated similarities).
struct SearchEnd {
    CandidateLists best;
    float sign;
    std::uint64_t* fresh;        // (lists of a tile, fresh_room): its rows, then its columns
    std::int32_t* fresh_counts;  // per list; 0 between tiles; more than fresh_room: they are lost
};

struct TileStep {
    DeviceTile tile;
    SearchEnd ends[2];
};

struct Similarity {
    float value;
    bool flipped;
};

CLIQUESIM_HOST_DEVICE inline Similarity similarity_at(const DeviceTile& tile, std::int64_t a,
                                                      std::int64_t b) {
    const std::int64_t at = a * tile.stride + b;
    const float plain = tile.values[at];
    if (tile.rounded_rows != nullptr)
        return {scaled_product(tile.rounded_rows[tile.first_row + a],
                               tile.rounded_cols[tile.first_col + b], plain),
                false};
    if (tile.mirrored == nullptr) return {plain, false};
    const float other = tile.mirrored[at];
    return other > plain ? Similarity{other, true} : Similarity{plain, false};
}

// How far a similarity may be off.
CLIQUESIM_HOST_DEVICE inline float margin_at(const DeviceTile& tile, std::int64_t a,
                                             std::int64_t b) {
    if (tile.rounded_rows == nullptr) return 0;
    return product_margin(tile.rounded_rows[tile.first_row + a],
                          tile.rounded_cols[tile.first_col + b]);
}

// The key of a candidate for the row's list, or 0 if it cannot enter.
CLIQUESIM_HOST_DEVICE inline std::uint64_t entering_key(const SearchEnd& end, std::int64_t row,
                                                        const Similarity& similarity, float margin,
                                                        std::int64_t candidate) {
    const float score = end.sign * similarity.value + margin;
    // A list of nothing has an infinite bound, which an infinite margin would pass.
    if (end.best.k == 0 || !(score >= end.best.bounds[row])) return 0;
    const std::uint64_t key = candidate_key(score, candidate_code(candidate, similarity.flipped));
    return key > end.best.keys[row * end.best.k + end.best.k - 1] ? key : 0;
}

// A list that takes everything yet is read again whole, without counting.
CLIQUESIM_HOST_DEVICE inline void offer(const SearchEnd& end, std::int64_t list, std::int64_t row,
                                        const Similarity& similarity, float margin,
                                        std::int64_t candidate) {
    if (end.best.bounds[row] == -infinite_score) {
        end.fresh_counts[list] = fresh_room + 1;
        return;
    }
    const std::uint64_t key = entering_key(end, row, similarity, margin, candidate);
    if (key == 0) return;
    const std::int32_t slot = take_slot(&end.fresh_counts[list]);
    if (slot < fresh_room) end.fresh[list * fresh_room + slot] = key;
}

// A similarity that passed a bound, for the four lists that it may enter.
CLIQUESIM_HOST_DEVICE inline void offer_to_all(const TileStep& step, std::int64_t a,
                                               std::int64_t b) {
    const DeviceTile& tile = step.tile;
    const std::int64_t row = tile.first_row + a, col = tile.first_col + b;
    if (tile.excludes(row, col)) return;
    const Similarity similarity = similarity_at(tile, a, b);
    const float margin = margin_at(tile, a, b);
    for (const SearchEnd& end : step.ends) {
        offer(end, a, row, similarity, margin, col);
        if (tile.serves_cols) offer(end, tile.rows + b, col, similarity, margin, row);
    }
}

CLIQUESIM_HOST_DEVICE inline float lesser(float a, float b) {
    return b < a ? b : a;
}

// The last row stands for those behind it.
CLIQUESIM_HOST_DEVICE inline std::int64_t row_at(std::int64_t a, std::int64_t end) {
    return a < end ? a : end - 1;
}

// One thread of the comparison: rows [begin, end) of column b. Some are read before any is
// compared, so that several readings are under way.
CLIQUESIM_HOST_DEVICE inline void scan_column(const TileStep& step, std::int64_t b,
                                              std::int64_t begin, std::int64_t end) {
    constexpr std::int32_t at_once = 8;
    const DeviceTile& tile = step.tile;
    const float* tops = step.ends[0].best.bounds + tile.first_row;
    const float* bottoms = step.ends[1].best.bounds + tile.first_row;
    float col_top = infinite_score, col_bottom = infinite_score;
    if (tile.serves_cols) {
        col_top = step.ends[0].best.bounds[tile.first_col + b];
        col_bottom = step.ends[1].best.bounds[tile.first_col + b];
    }
    for (std::int64_t first = begin; first < end; first += at_once) {
        float values[at_once];
        for (std::int32_t u = 0; u < at_once; ++u)
            values[u] = tile.values[row_at(first + u, end) * tile.stride + b];
        if (tile.mirrored != nullptr || tile.rounded_rows != nullptr)
            for (std::int32_t u = 0; u < at_once; ++u)
                values[u] = similarity_at(tile, row_at(first + u, end), b).value;
        std::uint32_t passed = 0;
        for (std::int32_t u = 0; u < at_once; ++u) {
            const std::int64_t a = row_at(first + u, end);
            const float margin = margin_at(tile, a, b);
            const bool above = values[u] + margin >= lesser(tops[a], col_top);
            const bool below = -values[u] + margin >= lesser(bottoms[a], col_bottom);
            passed |= static_cast<std::uint32_t>(above | below) << u;
        }
        if (end - first < at_once) passed &= (1u << (end - first)) - 1;
        for (std::int32_t u = 0; passed != 0; ++u, passed >>= 1)
            if (passed & 1u) offer_to_all(step, first + u, b);
    }
}

// A list's similarities [begin, end), end - begin <= fresh_room, that may enter it.
CLIQUESIM_HOST_DEVICE inline void gather_fresh(const TileStep& step, const SearchEnd& end,
                                               std::int64_t list, std::int64_t first,
                                               std::int64_t last, MergeBuffer& buffer,
                                               std::int32_t thread) {
    const DeviceTile& tile = step.tile;
    const bool of_row = list < tile.rows;
    for (std::int64_t i = first + thread; i < last; i += merge_threads) {
        const std::int64_t a = of_row ? list : i, b = of_row ? i : list - tile.rows;
        const std::int64_t row = tile.first_row + a, col = tile.first_col + b;
        const std::uint64_t key = entering_key(end, of_row ? row : col, similarity_at(tile, a, b),
                                               margin_at(tile, a, b), of_row ? col : row);
        if (key != 0 && !tile.excludes(row, col)) buffer.fresh[take_slot(&buffer.count)] = key;
    }
}

// The work of a block for one list of one end; `every` as for merge_fresh.
template <typename Every>
CLIQUESIM_HOST_DEVICE void merge_list(const TileStep& step, const SearchEnd& end, std::int64_t list,
                                      MergeBuffer& buffer, const Every& every) {
    const DeviceTile& tile = step.tile;
    const std::int32_t passed = end.fresh_counts[list];
    if (passed == 0) return;
    const bool of_row = list < tile.rows;
    const std::int64_t row = of_row ? tile.first_row + list : tile.first_col + list - tile.rows;
    if (passed <= fresh_room) {
        every([&](std::int32_t thread) {
            if (thread == 0) buffer.count = passed;
            for (std::int32_t j = thread; j < passed; j += merge_threads)
                buffer.fresh[j] = end.fresh[list * fresh_room + j];
        });
        merge_fresh(end.best, row, buffer, every);
    } else {
        const std::int64_t length = of_row ? tile.cols : tile.rows;
        for (std::int64_t first = 0; first < length; first += fresh_room) {
            const std::int64_t last = first + fresh_room < length ? first + fresh_room : length;
            every([&](std::int32_t thread) {
                if (thread == 0) buffer.count = 0;
            });
            every([&](std::int32_t thread) {
                gather_fresh(step, end, list, first, last, buffer, thread);
            });
            merge_fresh(end.best, row, buffer, every);
        }
    }
    every([&](std::int32_t thread) {
        if (thread == 0) end.fresh_counts[list] = 0;
    });
}

// Where the sorted lists go; a row's similarities are -sign * infinity where none are left.
struct NeighborOutput {
    std::int64_t rows, cols;  // cols >= the lists' k
    std::int64_t* indices;
    float* similarities;
    bool* flips;  // or null
};

CLIQUESIM_HOST_DEVICE inline void write_neighbor(const CandidateLists& best, float sign,
                                                 const NeighborOutput& out, std::int64_t at) {
    const std::int64_t row = at / out.cols, place = at % out.cols;
    const std::uint64_t key = place < best.k ? best.keys[row * best.k + place] : 0;
    out.indices[at] = key == 0 ? -1 : static_cast<std::int64_t>(key_code(key) >> 1);
    out.similarities[at] = sign * (key == 0 ? -infinite_score : key_score(key)) + 0.0f;
    if (out.flips != nullptr) out.flips[at] = key != 0 && (key_code(key) & 1u) != 0;
}

}  // namespace cliquesim
