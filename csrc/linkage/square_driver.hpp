// The order of the phases of square_rounds.hpp, the same on a CUDA device and in the host test.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "linkage/linkage.hpp"
#include "linkage/round_quality.hpp"
#include "linkage/square_rounds.hpp"

namespace cliquesim {

// Device runs the phases: find_all(clusters), round(clusters, merged), compact_rows(clusters,
// count), chain(clusters, until, steps), clear_merged_into(clusters); and copies: read(to, from,
// count), write(to, from, count). read waits for what was started before.
template <typename T, typename Device, typename Report>
class SquareDriver {
  public:
    // report(fraction) may throw to stop.
    SquareDriver(const SquareClusters<T>& clusters, Device& device, const Report& report)
        : clusters_(clusters),
          device_(device),
          report_(report),
          total_(clusters.width),
          alive_count_(clusters.width),
          row_of_(index(total_)) {
        std::iota(row_of_.begin(), row_of_.end(), 0);
    }

    // Merges in the order of resident.cpp.
    std::vector<Merge> run() {
        if (total_ < 2) return {};
        write_columns();
        device_.find_all(clusters_);
        RoundQuality quality;
        while (alive_count_ > 1) {
            if (2 * alive_count_ <= clusters_.width) compact(true);
            if (!quality.is_poor()) {
                const RoundCounts counts = merge_round();
                quality.add(counts.pairs, counts.lost);
            } else {
                follow_chain((alive_count_ + 1) / 2);
                quality.forget();
                if (alive_count_ == 1) break;
                compact(false);
                device_.find_all(clusters_);
            }
            const double left = static_cast<double>(alive_count_) / total_;
            report_(1 - left * left);
        }
        return read_merges();
    }

  private:
    static constexpr std::int32_t steps_at_once = 4096;  // well below a second

    static std::size_t index(std::int32_t c) { return static_cast<std::size_t>(c); }

    // All columns are alive.
    void write_columns() {
        const std::vector<std::uint8_t> alive(row_of_.size(), 1);
        device_.write(clusters_.alive, alive.data(), alive.size());
        device_.write(clusters_.row_of, row_of_.data(), row_of_.size());
    }

    RoundCounts merge_round() {
        const RoundCounts counts = device_.round(clusters_, merged_);
        rounds_.push_back(merged_);
        merged_ += counts.pairs;
        alive_count_ -= counts.pairs;
        return counts;
    }

    void follow_chain(std::int32_t until) {
        device_.clear_merged_into(clusters_);
        ChainState state{0, 0, 0, alive_count_, merged_, 0, -1};
        device_.write(clusters_.state, &state, 1);
        while (state.alive_count > until) {
            device_.chain(clusters_, until, steps_at_once);
            device_.read(&state, clusters_.state, 1);
            const double left = static_cast<double>(state.alive_count) / total_;
            report_(1 - left * left);
        }
        for (; merged_ < state.merged; ++merged_) rounds_.push_back(merged_);
        alive_count_ = state.alive_count;
    }

    void compact(bool neighbors) {
        const auto width = index(clusters_.width);
        std::vector<std::uint8_t> alive(width);
        device_.read(alive.data(), clusters_.alive, width);
        std::vector<std::int32_t> kept, renamed(width, -1);
        for (std::size_t c = 0; c < width; ++c) {
            if (!alive[c]) continue;
            renamed[c] = static_cast<std::int32_t>(kept.size());
            kept.push_back(static_cast<std::int32_t>(c));
        }
        device_.write(clusters_.kept, kept.data(), kept.size());
        device_.compact_rows(clusters_, alive_count_);
        if (neighbors) compact_neighbors(kept, renamed);
        for (std::size_t i = 0; i < kept.size(); ++i) row_of_[i] = row_of_[index(kept[i])];
        row_of_.resize(kept.size());
        clusters_.width = alive_count_;
        write_columns();
    }

    void compact_neighbors(const std::vector<std::int32_t>& kept,
                           const std::vector<std::int32_t>& renamed) {
        std::vector<std::int32_t> nearest(renamed.size());
        std::vector<T> distances(renamed.size());
        device_.read(nearest.data(), clusters_.nearest, nearest.size());
        device_.read(distances.data(), clusters_.nearest_distance, distances.size());
        for (std::size_t i = 0; i < kept.size(); ++i) {
            nearest[i] = renamed[index(nearest[index(kept[i])])];
            distances[i] = distances[index(kept[i])];
        }
        device_.write(clusters_.nearest, nearest.data(), kept.size());
        device_.write(clusters_.nearest_distance, distances.data(), kept.size());
    }

    // Within a round the slots are in no order; by leaf they are in that of the columns.
    std::vector<Merge> read_merges() {
        std::vector<LeafMerge<T>> found(index(merged_));
        device_.read(found.data(), clusters_.merges, found.size());
        rounds_.push_back(merged_);
        std::vector<Merge> merges;
        merges.reserve(found.size());
        for (const auto& one : found)
            merges.push_back({one.leaf_a, one.leaf_b, static_cast<double>(one.height)});
        for (std::size_t r = 0; r + 1 < rounds_.size(); ++r)
            std::sort(merges.begin() + rounds_[r], merges.begin() + rounds_[r + 1],
                      [](const Merge& x, const Merge& y) { return x.leaf_a < y.leaf_a; });
        return merges;
    }

    SquareClusters<T> clusters_;
    Device& device_;
    const Report& report_;
    std::int32_t total_, alive_count_, merged_ = 0;
    std::vector<std::int32_t> row_of_;
    std::vector<std::int32_t> rounds_;  // the first merge of each
};

}  // namespace cliquesim
