// The CUDA kernel of the similarity quantiles without its launch: the work of one thread block for
// one row, as phases between which it synchronises. A radix selection of 11, 11 and 10 bits: the
// first digit of all values is counted once per row, the others once per quantile.
#pragma once

#include <cstdint>

#include "common/atomics.hpp"
#include "common/host_device.hpp"
#include "neighbors/candidate_key.hpp"
#include "neighbors/tile_lists.hpp"

namespace cliquesim {

// Device pointers on the device, host pointers in the test.
struct QuantileRows {
    DeviceTile tile;       // whole rows
    float* values;         // of the tile; what is excluded becomes NaN
    const double* levels;  // in [0, 1]
    std::int64_t level_count;
    float* out;  // (all rows, level_count)
};

inline constexpr std::int32_t selection_threads = 256;
inline constexpr std::int32_t digit_values = 2048;

// Digit 0 is the leading one.
CLIQUESIM_HOST_DEVICE inline std::int32_t digit_shift(std::int32_t digit) {
    return digit == 0 ? 21 : digit == 1 ? 10 : 0;
}

// What a block shares.
struct SelectionBuffer {
    std::int32_t first_digits[digit_values];
    std::int32_t digits[digit_values];
    std::int32_t allowed;  // similarities that are not excluded
    std::int32_t rank;     // looked for, among the values that start with the prefix
    std::int32_t equal;    // values that start with the prefix
    std::uint32_t prefix;  // an ordered_score's leading digits
    std::uint32_t next;    // the least ordered_score above it
};

CLIQUESIM_HOST_DEVICE inline void clear_row(SelectionBuffer& buffer, std::int32_t thread) {
    for (std::int32_t d = thread; d < digit_values; d += selection_threads)
        buffer.first_digits[d] = 0;
    if (thread == 0) buffer.allowed = 0;
}

// NaN comes behind all others in the order.
CLIQUESIM_HOST_DEVICE inline void read_row(const QuantileRows& rows, std::int64_t a,
                                           SelectionBuffer& buffer, std::int32_t thread) {
    const DeviceTile& tile = rows.tile;
    std::int32_t allowed = 0;
    for (std::int64_t b = thread; b < tile.cols; b += selection_threads) {
        const bool excluded = tile.excluded(tile.first_row + a, tile.first_col + b);
        const float value = excluded ? no_score : similarity_at(tile, a, b).value;
        rows.values[a * tile.stride + b] = value;
        allowed += excluded ? 0 : 1;
        add_to(&buffer.first_digits[ordered_score(value) >> digit_shift(0)], 1);
    }
    add_to(&buffer.allowed, allowed);
}

// The place of a quantile among the ascending values, as numpy.quantile.
CLIQUESIM_HOST_DEVICE inline double place_of(const QuantileRows& rows, std::int64_t q,
                                             const SelectionBuffer& buffer) {
    return rows.levels[q] * static_cast<double>(buffer.allowed - 1);
}

CLIQUESIM_HOST_DEVICE inline void start_quantile(const QuantileRows& rows, std::int64_t q,
                                                 SelectionBuffer& buffer) {
    buffer.rank = static_cast<std::int32_t>(place_of(rows, q, buffer));
    buffer.prefix = 0;
    buffer.next = 0xffffffffu;
}

CLIQUESIM_HOST_DEVICE inline void clear_digits(SelectionBuffer& buffer, std::int32_t thread) {
    for (std::int32_t d = thread; d < digit_values; d += selection_threads) buffer.digits[d] = 0;
}

CLIQUESIM_HOST_DEVICE inline void count_digits(const QuantileRows& rows, std::int64_t a,
                                               std::int32_t digit, SelectionBuffer& buffer,
                                               std::int32_t thread) {
    const std::int32_t shift = digit_shift(digit), above = digit_shift(digit - 1);
    const std::uint32_t mask = (1u << (above - shift)) - 1;
    const float* values = rows.values + a * rows.tile.stride;
    for (std::int64_t b = thread; b < rows.tile.cols; b += selection_threads) {
        const std::uint32_t ordered = ordered_score(values[b]);
        if (ordered >> above == buffer.prefix) add_to(&buffer.digits[ordered >> shift & mask], 1);
    }
}

// One more digit of the prefix: the one whose values hold the rank.
CLIQUESIM_HOST_DEVICE inline void narrow(const std::int32_t* counts, std::int32_t bits,
                                         SelectionBuffer& buffer) {
    std::int32_t rank = buffer.rank, digit = 0;
    while (rank >= counts[digit]) rank -= counts[digit++];
    buffer.rank = rank;
    buffer.equal = counts[digit];
    buffer.prefix = buffer.prefix << bits | static_cast<std::uint32_t>(digit);
}

CLIQUESIM_HOST_DEVICE inline void find_next(const QuantileRows& rows, std::int64_t a,
                                            SelectionBuffer& buffer, std::int32_t thread) {
    const float* values = rows.values + a * rows.tile.stride;
    std::uint32_t next = 0xffffffffu;
    for (std::int64_t b = thread; b < rows.tile.cols; b += selection_threads) {
        const std::uint32_t ordered = ordered_score(values[b]);
        if (ordered > buffer.prefix && ordered < next) next = ordered;
    }
    lower_to(&buffer.next, next);
}

// Whether the value behind the one at the place is another and has a share.
CLIQUESIM_HOST_DEVICE inline bool needs_next(double place, const SelectionBuffer& buffer) {
    return place > static_cast<double>(static_cast<std::int64_t>(place)) &&
           buffer.rank + 1 == buffer.equal;
}

CLIQUESIM_HOST_DEVICE inline float interpolate(double place, const SelectionBuffer& buffer) {
    if (!needs_next(place, buffer)) return score_of(buffer.prefix);
    const double share = place - static_cast<double>(static_cast<std::int64_t>(place));
    return static_cast<float>((1 - share) * static_cast<double>(score_of(buffer.prefix)) +
                              share * static_cast<double>(score_of(buffer.next)));
}

// The quantiles of one row. `every(phase)` calls phase(thread) for all threads of the block, and
// then they synchronise.
template <typename Every>
CLIQUESIM_HOST_DEVICE void row_quantiles(const QuantileRows& rows, std::int64_t a,
                                         SelectionBuffer& buffer, const Every& every) {
    const auto first = [&](auto&& action) {
        every([&](std::int32_t thread) {
            if (thread == 0) action();
        });
    };
    float* out = rows.out + (rows.tile.first_row + a) * rows.level_count;
    every([&](std::int32_t thread) { clear_row(buffer, thread); });
    every([&](std::int32_t thread) { read_row(rows, a, buffer, thread); });
    for (std::int64_t q = 0; q < rows.level_count; ++q) {
        if (buffer.allowed == 0) {
            first([&] { out[q] = no_score; });
            continue;
        }
        first([&] {
            start_quantile(rows, q, buffer);
            narrow(buffer.first_digits, 32 - digit_shift(0), buffer);
        });
        for (std::int32_t digit = 1; digit < 3; ++digit) {
            every([&](std::int32_t thread) { clear_digits(buffer, thread); });
            every([&](std::int32_t thread) { count_digits(rows, a, digit, buffer, thread); });
            first([&] {
                narrow(buffer.digits, digit_shift(digit - 1) - digit_shift(digit), buffer);
            });
        }
        const double place = place_of(rows, q, buffer);
        if (needs_next(place, buffer))
            every([&](std::int32_t thread) { find_next(rows, a, buffer, thread); });
        first([&] { out[q] = interpolate(place, buffer); });
    }
}

}  // namespace cliquesim
