#include "cliques/member_similarity.hpp"

#include <algorithm>
#include <cstdlib>

#include "common/errors.hpp"
#include "common/similarity.hpp"

namespace cliquesim {

SequenceReach reach_of(const Descriptors& descriptors) {
    const std::int64_t n = descriptors.rows.rows;
    if (descriptors.pool_radius == 0) {
        const std::vector<std::int32_t> none(static_cast<std::size_t>(n), 0);
        return {none, none};
    }
    require(static_cast<std::int64_t>(descriptors.sequences.size()) == n,
            "pool_radius needs the sequence of each row");
    return sequence_reach(descriptors.sequences, descriptors.pool_radius, "sequences");
}

// Rows at `shift` from the members, zero where that leaves the window, and zero up to the tile.
void MemberSimilarity::gather(std::span<const std::int64_t> members, std::int64_t shift) {
    const std::int64_t count = static_cast<std::int64_t>(members.size());
    float* out = gathered_.data();
    for (std::int64_t i = 0; i < round_up_to_tile(count); ++i, out += rows_.cols) {
        const std::int64_t row = i < count ? members[static_cast<std::size_t>(i)] : -1;
        const bool inside =
            row >= 0 && (shift < 0 ? -shift <= reach_[row].before : shift <= reach_[row].after);
        if (inside)
            std::copy_n(rows_.row(row + shift), rows_.cols, out);
        else
            std::fill_n(out, rows_.cols, 0.0F);
    }
}

MatrixView<float> MemberSimilarity::compute(std::span<const std::int64_t> members) {
    const std::int64_t count = static_cast<std::int64_t>(members.size());
    const std::int64_t padded = round_up_to_tile(count);
    gathered_.resize(static_cast<std::size_t>(padded * rows_.cols));
    similarity_.resize(static_cast<std::size_t>(padded * padded));
    const MatrixView<const float> rows(gathered_.data(), padded, rows_.cols);
    const MatrixView<float> sum(similarity_.data(), padded, padded);
    gather(members, -radius_);
    similarity_tile(rows, rows, sum);
    for (std::int64_t shift = -radius_ + 1; shift <= radius_; ++shift) {
        product_.resize(similarity_.size());
        gather(members, shift);
        similarity_tile(rows, rows, {product_.data(), padded, padded});
        for (std::size_t i = 0; i < product_.size(); ++i) similarity_[i] += product_[i];
    }
    if (radius_ > 0) {
        for (std::int64_t i = 0; i < count; ++i) {
            const Reach a = reach_[members[static_cast<std::size_t>(i)]];
            for (std::int64_t j = 0; j < count; ++j) {
                const Reach b = reach_[members[static_cast<std::size_t>(j)]];
                sum(i, j) /=
                    static_cast<float>(smaller(a.before, b.before) + smaller(a.after, b.after) + 1);
            }
        }
    }
    return {similarity_.data(), count, count, padded};
}

double intra_similarity(MatrixView<const float> similarity, std::span<const std::int32_t> chosen) {
    if (chosen.size() < 2) return 1;
    double sum = 0;
    for (std::size_t i = 0; i < chosen.size(); ++i)
        for (std::size_t j = i + 1; j < chosen.size(); ++j)
            sum += static_cast<double>(std::max(0.0F, similarity(chosen[i], chosen[j])));
    return sum /
           (0.5 * static_cast<double>(chosen.size()) * static_cast<double>(chosen.size() - 1));
}

bool GroupCap::take(std::int64_t frame) {
    if (rules_.groups.empty()) return true;
    const auto group = [&](std::int64_t row) {
        return rules_.groups[static_cast<std::size_t>(row)];
    };
    std::int64_t members = 0;
    for (const std::int64_t other : taken_) {
        if (group(other) != group(frame)) continue;
        if (++members >= rules_.per_group) return false;
        if (std::abs(other - frame) <= rules_.group_window) return false;
    }
    taken_.push_back(frame);
    return true;
}

}  // namespace cliquesim
