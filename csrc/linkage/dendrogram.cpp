#include <algorithm>
#include <numeric>
#include <vector>

#include "linkage/linkage.hpp"

namespace cliquesim {

void label_dendrogram(std::vector<Merge> merges, MatrixView<double> dendrogram) {
    // Stable, so that among equal heights a child still comes before its parent.
    std::stable_sort(merges.begin(), merges.end(),
                     [](const Merge& x, const Merge& y) { return x.height < y.height; });
    const auto n = static_cast<std::int64_t>(merges.size()) + 1;
    std::vector<std::int64_t> parent(static_cast<std::size_t>(2 * n - 1));
    std::vector<std::int64_t> size(static_cast<std::size_t>(2 * n - 1), 1);
    std::iota(parent.begin(), parent.end(), 0);
    const auto root = [&](std::int64_t node) {
        while (parent[static_cast<std::size_t>(node)] != node) {
            auto& up = parent[static_cast<std::size_t>(node)];
            up = parent[static_cast<std::size_t>(up)];  // path halving
            node = up;
        }
        return node;
    };
    for (std::int64_t i = 0; i + 1 < n; ++i) {
        const Merge& merge = merges[static_cast<std::size_t>(i)];
        const auto [low, high] = std::minmax({root(merge.leaf_a), root(merge.leaf_b)});
        const auto node = static_cast<std::size_t>(n + i);
        size[node] = size[static_cast<std::size_t>(low)] + size[static_cast<std::size_t>(high)];
        parent[static_cast<std::size_t>(low)] = parent[static_cast<std::size_t>(high)] = n + i;
        dendrogram(i, 0) = static_cast<double>(low);
        dendrogram(i, 1) = static_cast<double>(high);
        dendrogram(i, 2) = merge.height;
        dendrogram(i, 3) = static_cast<double>(size[node]);
    }
}

}  // namespace cliquesim
