// Similarities among a few frames: the Gram matrix of their rows, pooled by Eq. (9) on request.
#pragma once

#include <span>
#include <vector>

#include "cliques/cliques.hpp"
#include "temporal/sequences.hpp"

namespace cliquesim {

// Where each row's pooling window ends; without pooling every window is the row itself.
SequenceReach reach_of(const Descriptors& descriptors);

// One per thread: holds the scratch memory.
class MemberSimilarity {
  public:
    MemberSimilarity(const Descriptors& descriptors, const SequenceReach& reach)
        : rows_(descriptors.rows), reach_(reach), radius_(descriptors.pool_radius) {}

    // (m, m) similarities of the members, valid until the next call. The same bits for a pair of
    // frames whatever the other members are.
    MatrixView<float> compute(std::span<const std::int64_t> members);

  private:
    void gather(std::span<const std::int64_t> members, std::int64_t shift);

    MatrixView<const float> rows_;
    const SequenceReach& reach_;
    std::int64_t radius_;
    std::vector<float> gathered_, similarity_, product_;
};

// Mean over pairs i != j of the clipped similarities; 1 for a single member. `chosen` are
// positions.
double intra_similarity(MatrixView<const float> similarity, std::span<const std::int32_t> chosen);

// Counts a clique's members per group, so that the rules' cap holds.
class GroupCap {
  public:
    explicit GroupCap(const CliqueRules& rules) : rules_(rules) {}
    void clear() { taken_.clear(); }
    // Whether `frame` may join those taken so far; takes it if so.
    bool take(std::int64_t frame);

  private:
    const CliqueRules& rules_;
    std::vector<std::int64_t> taken_;
};

}  // namespace cliquesim
