#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <numeric>
#include <queue>
#include <vector>

#include "cliques/member_similarity.hpp"
#include "common/errors.hpp"
#include "common/thread_pool.hpp"

namespace cliquesim {

namespace {

std::size_t index(std::int64_t i) {
    return static_cast<std::size_t>(i);
}

using ConstRow = Eigen::Map<const Eigen::RowVectorXf>;

}  // namespace

CliqueList distinct_cliques(const CliqueList& cliques, std::int64_t min_size) {
    std::vector<std::int64_t> order;
    for (std::int64_t k = 0; k < cliques.size(); ++k)
        if (static_cast<std::int64_t>(cliques[k].size()) >= min_size) order.push_back(k);
    std::stable_sort(order.begin(), order.end(), [&](std::int64_t x, std::int64_t y) {
        return std::ranges::lexicographical_compare(cliques[x], cliques[y]);
    });
    const auto repeated = std::unique(
        order.begin(), order.end(),
        [&](std::int64_t x, std::int64_t y) { return std::ranges::equal(cliques[x], cliques[y]); });
    order.erase(repeated, order.end());
    std::sort(order.begin(), order.end());
    CliqueList result;
    for (const std::int64_t k : order) result.append(cliques[k], cliques.intra[index(k)]);
    return result;
}

std::vector<std::int64_t> cover_greedily(const CliqueList& cliques, std::int64_t num_frames,
                                         std::int64_t count) {
    struct Entry {
        double gain;
        double intra;
        std::int64_t clique;
        bool operator<(const Entry& other) const {
            if (gain != other.gain) return gain < other.gain;
            if (intra != other.intra) return intra < other.intra;
            return clique > other.clique;
        }
    };
    std::vector<std::uint8_t> covered(index(num_frames), 0);
    const auto entry = [&](std::int64_t k) {
        std::int64_t fresh = 0;
        for (const std::int64_t frame : cliques[k]) fresh += covered[index(frame)] == 0;
        const double intra = cliques.intra[index(k)];
        return Entry{static_cast<double>(fresh) * intra, intra, k};
    };
    // Gains only fall, so an entry that is still the best after an update is the best of all.
    std::priority_queue<Entry> queue;
    for (std::int64_t k = 0; k < cliques.size(); ++k) queue.push(entry(k));
    std::vector<std::int64_t> chosen;
    while (!queue.empty() && static_cast<std::int64_t>(chosen.size()) < count) {
        const Entry top = queue.top();
        queue.pop();
        const Entry now = entry(top.clique);
        if (!queue.empty() && now < queue.top()) {
            queue.push(now);
            continue;
        }
        chosen.push_back(top.clique);
        for (const std::int64_t frame : cliques[top.clique]) covered[index(frame)] = 1;
    }
    std::sort(chosen.begin(), chosen.end());
    return chosen;
}

void clique_means(const Descriptors& descriptors, const CliqueList& cliques, std::int64_t shift,
                  MatrixView<double> means, const Context& context) {
    const auto& rows = descriptors.rows;
    require(means.rows == cliques.size() && means.cols == rows.cols, "means must be (K, D)");
    const SequenceReach reach = reach_of(descriptors);
    ThreadPool pool(context);
    pool.parallel_for(
        cliques.size(),
        [&](std::int64_t k, int) {
            Eigen::Map<Eigen::RowVectorXd> mean(means.row(k), means.cols);
            mean.setZero();
            for (const std::int64_t frame : cliques[k]) {
                const Reach window = reach[frame];
                if (shift < 0 ? -shift > window.before : shift > window.after) continue;
                const double weight = 1 / std::sqrt(static_cast<double>(window.before) +
                                                    static_cast<double>(window.after) + 1);
                mean += weight * ConstRow(rows.row(frame + shift), rows.cols).cast<double>();
            }
            mean /= static_cast<double>(std::max<std::size_t>(cliques[k].size(), 1));
        },
        16);
}

void pair_similarities(const Descriptors& descriptors, std::span<const std::int64_t> first,
                       std::span<const std::int64_t> second, std::span<float> out,
                       const Context& context) {
    require(first.size() == second.size() && first.size() == out.size(),
            "first and second must have the same length");
    const auto& rows = descriptors.rows;
    const SequenceReach reach = reach_of(descriptors);
    ThreadPool pool(context);
    pool.parallel_for(
        static_cast<std::int64_t>(first.size()),
        [&](std::int64_t m, int) {
            const std::int64_t i = first[index(m)], j = second[index(m)];
            const std::int64_t before = smaller(reach[i].before, reach[j].before);
            const std::int64_t after = smaller(reach[i].after, reach[j].after);
            float sum = 0;
            for (std::int64_t n = -before; n <= after; ++n)
                sum +=
                    ConstRow(rows.row(i + n), rows.cols).dot(ConstRow(rows.row(j + n), rows.cols));
            out[index(m)] = sum / static_cast<float>(before + after + 1);
        },
        256);
}

}  // namespace cliquesim
