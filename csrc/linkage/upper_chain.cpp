#include "linkage/upper_chain.hpp"

#include <algorithm>
#include <numeric>

namespace cliquesim {

template <typename V>
std::vector<Merge> chain_linkage(const UpperRows<V>& rows, ThreadPool& pool) {
    std::vector<std::int64_t> alive(static_cast<std::size_t>(rows.size()));
    std::iota(alive.begin(), alive.end(), 0);
    std::vector<std::int64_t> chain;
    std::vector<Merge> merges;
    while (alive.size() > 1) {
        if (chain.empty()) chain.push_back(alive.front());
        const std::int64_t top = chain.back();
        const std::int64_t before = chain.size() > 1 ? chain[chain.size() - 2] : -1;
        // Among equally near ones the one before, so that ties end the chain; then the smallest.
        std::int64_t nearest = before;
        V distance = before >= 0 ? rows.at(top, before) : V(0);
        for (const std::int64_t other : alive) {
            if (other == top) continue;
            const V d = rows.at(top, other);
            if (nearest < 0 || d < distance) {
                nearest = other;
                distance = d;
            }
        }
        if (nearest != before) {
            chain.push_back(nearest);
            continue;
        }
        chain.resize(chain.size() - 2);
        const std::int64_t a = std::min(top, before), b = std::max(top, before);
        merges.push_back({a, b, static_cast<double>(distance)});
        alive.erase(std::lower_bound(alive.begin(), alive.end(), b));
        for (const std::int64_t other : alive)
            if (other != a) rows.at(a, other) = std::max(rows.at(a, other), rows.at(b, other));
        pool.check();
    }
    return merges;
}

template std::vector<Merge> chain_linkage(const UpperRows<float>&, ThreadPool&);
template std::vector<Merge> chain_linkage(const UpperRows<double>&, ThreadPool&);

}  // namespace cliquesim
