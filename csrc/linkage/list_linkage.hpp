// Complete linkage as far as lists of near neighbours can prove it, without reading a full row.
//
// Cluster A has a list of clusters at exact distances and a bound: whatever is not listed is at
// least that far. Merging A and B is exact if no cluster can be nearer to either (complete linkage
// is reducible: a merge brings nothing nearer), and the lists of the two give the list of the
// union. An entry remains as long as all items of the cluster it now belongs to are listed; its
// distance is their maximum, for the distance of two clusters is that of their farthest items.
//
// With infinite bounds this is complete linkage of a sparse graph, where an absent edge forbids the
// merge.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <numeric>
#include <optional>
#include <span>
#include <vector>

#include "linkage/linkage.hpp"

namespace cliquesim {

// Clusters of items, numbered by their smallest item.
struct Grouping {
    std::vector<std::int32_t> label;    // of every item
    std::vector<std::int64_t> offsets;  // of every cluster's items in `members`
    std::vector<std::int32_t> members;  // ascending within a cluster

    std::int64_t size() const { return static_cast<std::int64_t>(offsets.size()) - 1; }
    std::span<const std::int32_t> operator[](std::int64_t cluster) const {
        const std::int64_t begin = offsets[static_cast<std::size_t>(cluster)];
        const std::int64_t end = offsets[static_cast<std::size_t>(cluster) + 1];
        return {members.data() + begin, static_cast<std::size_t>(end - begin)};
    }
};

template <typename V>
class ListLinkage {
  public:
    struct Entry {
        std::int32_t cluster;
        std::int32_t items;  // of the cluster, when its distance was taken
        V distance;
    };

    // List of item i: entries[offsets[i]] and the count[i] - 1 after it. leaf[i] names item i in
    // the merges.
    ListLinkage(std::vector<Entry> entries, std::vector<std::int64_t> offsets,
                std::vector<std::int32_t> count, std::vector<V> bound,
                std::span<const std::int64_t> leaf)
        : entries_(std::move(entries)),
          offset_(std::move(offsets)),
          count_(std::move(count)),
          bound_(std::move(bound)),
          leaf_(leaf),
          parent_(count_.size()),
          items_(count_.size(), 1),
          version_(count_.size(), 0),
          waiters_(count_.size(), -1),
          ticket_(count_.size(), 0),
          seen_(count_.size(), 0),
          slot_(count_.size()),
          next_(count_.size(), -1),
          tail_(count_.size()) {
        std::iota(parent_.begin(), parent_.end(), 0);
        std::iota(tail_.begin(), tail_.end(), 0);
    }

    // lookup(i, j) gives the distance of two items, or nothing; check() is called now and then.
    template <typename Lookup, typename Check>
    void run(std::vector<Merge>& merges, const Lookup& lookup, const Check& check) {
        std::vector<std::int32_t> work(count_.size());
        for (std::size_t i = 0; i < work.size(); ++i)
            work[i] = static_cast<std::int32_t>(work.size() - 1 - i);
        std::uint32_t steps = 0;
        while (!work.empty()) {
            if ((++steps & 0xfff) == 0) check();
            const std::int32_t cluster = work.back();
            work.pop_back();
            if (parent_[index(cluster)] == cluster) advance(cluster, work, merges, lookup);
        }
    }

    Grouping grouping() {
        Grouping groups;
        const auto n = static_cast<std::int32_t>(count_.size());
        groups.label.resize(count_.size());
        groups.offsets.push_back(0);
        groups.members.reserve(count_.size());
        for (std::int32_t i = 0; i < n; ++i) {
            if (parent_[index(i)] != i) continue;
            const auto begin = static_cast<std::ptrdiff_t>(groups.members.size());
            for (std::int32_t item = i; item >= 0; item = next_[index(item)]) {
                groups.label[index(item)] = static_cast<std::int32_t>(groups.size());
                groups.members.push_back(item);
            }
            std::sort(groups.members.begin() + begin, groups.members.end());
            groups.offsets.push_back(static_cast<std::int64_t>(groups.members.size()));
        }
        return groups;
    }

  private:
    static constexpr V infinity = std::numeric_limits<V>::infinity();
    static std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }

    std::int32_t root(std::int32_t i) {
        while (parent_[index(i)] != i) i = parent_[index(i)] = parent_[index(parent_[index(i)])];
        return i;
    }

    std::span<Entry> list(std::int32_t c) {
        return {entries_.data() + offset_[index(c)], index(count_[index(c)])};
    }

    // Entries under their present cluster, one each; those that cover a cluster in part are
    // dropped.
    void refresh(std::int32_t c) {
        if (version_[index(c)] == merges_) return;
        version_[index(c)] = merges_;
        ++token_;
        const auto entries = list(c);
        std::int32_t kept = 0;
        for (const Entry& entry : entries) {
            const std::int32_t target = root(entry.cluster);
            if (seen_[index(target)] != token_) {
                seen_[index(target)] = token_;
                slot_[index(target)] = kept;
                entries[index(kept++)] = {target, entry.items, entry.distance};
            } else {
                Entry& known = entries[index(slot_[index(target)])];
                known.items += entry.items;
                known.distance = std::max(known.distance, entry.distance);
            }
        }
        std::int32_t whole = 0;
        for (std::int32_t e = 0; e < kept; ++e)
            if (entries[index(e)].items == items_[index(entries[index(e)].cluster)])
                entries[index(whole++)] = entries[index(e)];
        count_[index(c)] = whole;
    }

    const Entry* nearest(std::int32_t c) {
        const Entry* best = nullptr;
        for (const Entry& entry : list(c))
            if (!best || entry.distance < best->distance ||
                (entry.distance == best->distance && entry.cluster < best->cluster))
                best = &entry;
        return best;
    }

    // Merges c as often as can be proved; then it waits for its nearest cluster to change.
    template <typename Lookup>
    void advance(std::int32_t c, std::vector<std::int32_t>& work, std::vector<Merge>& merges,
                 const Lookup& lookup) {
        while (true) {
            refresh(c);
            const Entry* found = nearest(c);
            if (!found || found->distance == infinity) {
                wake(c, work);  // its bound is now the only limit for those who wait for it
                return;
            }
            const std::int32_t other = found->cluster;
            const V distance = found->distance;
            refresh(other);
            const Entry* back = nearest(other);
            if (distance > (back ? back->distance : bound_[index(other)])) {
                wait(c, other);
                return;
            }
            merges.push_back({leaf_[index(c)], leaf_[index(other)], static_cast<double>(distance)});
            wake(c, work);
            wake(other, work);
            c = merge(c, other, lookup);
        }
    }

    void wait(std::int32_t c, std::int32_t other) {
        ++ticket_[index(c)];
        waiting_.push_back({c, ticket_[index(c)], waiters_[index(other)]});
        waiters_[index(other)] = static_cast<std::int64_t>(waiting_.size()) - 1;
    }

    void wake(std::int32_t c, std::vector<std::int32_t>& work) {
        for (std::int64_t w = waiters_[index(c)]; w >= 0; w = waiting_[index(w)].next) {
            const Waiting& one = waiting_[index(w)];
            if (parent_[index(one.cluster)] != one.cluster ||
                ticket_[index(one.cluster)] != one.ticket)
                continue;  // has moved on
            ++ticket_[index(one.cluster)];
            work.push_back(one.cluster);
        }
        waiters_[index(c)] = -1;
    }

    template <typename Lookup>
    std::int32_t merge(std::int32_t a, std::int32_t b, const Lookup& lookup) {
        // The cluster with the larger bound lists everything that the union can list.
        const bool first =
            bound_[index(a)] > bound_[index(b)] || (bound_[index(a)] == bound_[index(b)] && a < b);
        const std::int32_t wide = first ? a : b, narrow = first ? b : a;
        ++token_;
        const auto others = list(narrow);
        for (std::size_t e = 0; e < others.size(); ++e) {
            seen_[index(others[e].cluster)] = token_;
            slot_[index(others[e].cluster)] = static_cast<std::int32_t>(e);
        }
        const auto entries = list(wide);
        V bound = bound_[index(wide)];
        std::int32_t kept = 0;
        for (const Entry& entry : entries) {
            if (entry.cluster == narrow) continue;
            std::optional<V> distance;
            if (seen_[index(entry.cluster)] == token_)
                distance = others[index(slot_[index(entry.cluster)])].distance;
            else
                distance = farthest(narrow, entry.cluster, bound, lookup);
            if (!distance) {
                bound = std::min(bound, std::max(entry.distance, bound_[index(narrow)]));
            } else {
                entries[index(kept++)] = {entry.cluster, entry.items,
                                          std::max(entry.distance, *distance)};
            }
        }
        // The bound may have come down below what is listed.
        const auto end = std::remove_if(entries.begin(), entries.begin() + kept,
                                        [&](const Entry& e) { return e.distance > bound; });
        kept = static_cast<std::int32_t>(end - entries.begin());
        const std::int32_t into = std::min(a, b), from = std::max(a, b);
        offset_[index(into)] = offset_[index(wide)];
        count_[index(into)] = kept;
        bound_[index(into)] = bound;
        items_[index(into)] += items_[index(from)];
        parent_[index(from)] = into;
        next_[index(tail_[index(into)])] = from;
        tail_[index(into)] = tail_[index(from)];
        version_[index(into)] = ++merges_;
        return into;
    }

    // Largest distance of an item of a and one of b, or anything above `limit`.
    template <typename Lookup>
    std::optional<V> farthest(std::int32_t a, std::int32_t b, V limit, const Lookup& lookup) {
        V largest = -infinity;
        for (std::int32_t i = a; i >= 0; i = next_[index(i)])
            for (std::int32_t j = b; j >= 0; j = next_[index(j)]) {
                const std::optional<V> distance = lookup(i, j);
                if (!distance) return std::nullopt;
                largest = std::max(largest, *distance);
                if (largest > limit) return largest;
            }
        return largest;
    }

    struct Waiting {
        std::int32_t cluster;
        std::uint32_t ticket;
        std::int64_t next;
    };

    std::vector<Entry> entries_;
    std::vector<std::int64_t> offset_;
    std::vector<std::int32_t> count_;
    std::vector<V> bound_;
    std::span<const std::int64_t> leaf_;
    std::vector<std::int32_t> parent_, items_;
    std::vector<std::uint32_t> version_;
    std::vector<std::int64_t> waiters_;
    std::vector<std::uint32_t> ticket_, seen_;
    std::vector<std::int32_t> slot_, next_, tail_;
    std::vector<Waiting> waiting_;
    std::uint32_t merges_ = 0, token_ = 0;
};

}  // namespace cliquesim
