#include "batches/coverage.hpp"

#include <algorithm>
#include <unordered_map>

#include "common/errors.hpp"

namespace cliquesim {

namespace {

std::uint64_t mix(std::uint64_t value) {
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ULL;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebULL;
    return value ^ (value >> 31);
}

}  // namespace

Coverage transpose(const CoverageView& coverage) {
    Coverage result;
    result.offsets.assign(coverage.samples + 1, 0);
    result.weights.assign(coverage.cliques, 1.0);
    result.indices.resize(coverage.indices.size());
    for (const std::int64_t sample : coverage.indices) ++result.offsets[sample + 1];
    for (std::int64_t n = 0; n < coverage.samples; ++n) result.offsets[n + 1] += result.offsets[n];
    std::vector<std::int64_t> next(result.offsets.begin(), result.offsets.end() - 1);
    for (std::int64_t k = 0; k < coverage.cliques; ++k) {
        for (const std::int64_t sample : coverage.of(k)) result.indices[next[sample]++] = k;
    }
    return result;
}

Coverage merge_samples(std::span<const std::int64_t> offsets, std::span<const std::int64_t> indices,
                       std::int64_t samples) {
    const auto cliques = static_cast<std::int64_t>(offsets.size()) - 1;
    require(cliques >= 0 && offsets.front() == 0 &&
                offsets.back() == static_cast<std::int64_t>(indices.size()),
            "membership is not a valid CSR matrix");
    for (const std::int64_t sample : indices) {
        require(sample >= 0 && sample < samples, "membership has a sample index out of range");
    }
    const CoverageView view{cliques, samples, offsets, indices, {}};
    const Coverage columns = transpose(view);
    const CoverageView by_sample = columns.view();

    Coverage result;
    std::vector<std::int64_t> merged(samples, -1);  // new index of each sample
    std::vector<std::int64_t> original;             // a sample of each new index
    std::unordered_multimap<std::uint64_t, std::int64_t> seen;
    for (std::int64_t n = 0; n < samples; ++n) {
        const auto column = by_sample.of(n);
        if (column.empty()) continue;
        std::uint64_t hash = column.size();
        for (const std::int64_t k : column) hash = mix(hash + 0x9e3779b97f4a7c15ULL + k);
        const auto [begin, end] = seen.equal_range(hash);
        const auto same = std::find_if(begin, end, [&](const auto& entry) {
            return std::ranges::equal(by_sample.of(original[entry.second]), column);
        });
        if (same != end) {
            merged[n] = same->second;
            result.weights[same->second] += 1;
            continue;
        }
        merged[n] = static_cast<std::int64_t>(original.size());
        seen.emplace(hash, merged[n]);
        original.push_back(n);
        result.weights.push_back(1);
    }

    result.offsets.assign(1, 0);
    for (std::int64_t k = 0; k < cliques; ++k) {
        for (const std::int64_t sample : view.of(k)) {
            if (original[merged[sample]] == sample) result.indices.push_back(merged[sample]);
        }
        result.offsets.push_back(static_cast<std::int64_t>(result.indices.size()));
    }
    return result;
}

ConcavePower::ConcavePower(double p, double smoothing) : p_(p), smoothing_(smoothing) {
    require(p > 0 && p <= 1, "p must be in (0, 1]");
    require(smoothing >= 0, "smoothing must be at least 0");
    for (int k = 0; k <= 10; ++k) {
        if (p == std::ldexp(1.0, -k)) square_roots_ = k;
    }
    offset_ = smoothing > 0 ? power(smoothing) : 0.0;
    scale_ = 1.0 / (power(1.0 + smoothing) - offset_);
}

}  // namespace cliquesim
