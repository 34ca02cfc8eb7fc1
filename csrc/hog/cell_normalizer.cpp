#include <algorithm>
#include <cmath>
#include <cstring>

#include "common/vectors.hpp"
#include "hog/cells.hpp"
#include "hog/gradients.hpp"

namespace cliquesim::hog {

namespace {

constexpr int num_unsigned = num_orientations / 2;
constexpr int num_bins = num_orientations + num_unsigned;
constexpr int num_norms = 4;

std::size_t size(std::int64_t n) {
    return static_cast<std::size_t>(n);
}

std::int64_t padded(std::int64_t cells) {
    return (cells + register_lanes - 1) / register_lanes * register_lanes;
}

// One register of cells: 31 channels x cells.
void normalise(const float* bins, std::int64_t plane_stride, const Register (&norms)[num_norms],
               float* channels) {
    const Register clip = Register{} + half_clip;
    Register texture[num_norms] = {};
    for (int o = 0; o < num_orientations; ++o) {
        const Register value = load(bins + o * plane_stride);
        Register sum = {};
        for (int n = 0; n < num_norms; ++n) {
            const Register clipped = smaller(value * norms[n], clip);
            texture[n] += clipped;
            sum += clipped;
        }
        store(channels + o * register_lanes, sum);
    }
    for (int o = 0; o < num_unsigned; ++o) {
        const Register value =
            load(bins + o * plane_stride) + load(bins + (o + num_unsigned) * plane_stride);
        Register sum = {};
        for (int n = 0; n < num_norms; ++n) sum += smaller(value * norms[n], clip);
        store(channels + (num_orientations + o) * register_lanes, sum);
    }
    for (int n = 0; n < num_norms; ++n)
        store(channels + (num_bins + n) * register_lanes, texture_weight * texture[n]);
}

// Channels [28, 31) of four cells, or the four from `channel` on.
template <bool last>
void write_four(const float* channels, int channel, float* const (&to)[4]) {
    const float* from = channels + channel * register_lanes;
    Quad a = load<Quad>(from), b = load<Quad>(from + register_lanes);
    Quad c = load<Quad>(from + 2 * register_lanes);
    Quad d = last ? c : load<Quad>(from + 3 * register_lanes);
    transpose(a, b, c, d);
    const Quad cells[4] = {a, b, c, d};
    for (int n = 0; n < 4; ++n)
        std::memcpy(to[n] + channel, &cells[n], (last ? 3 : 4) * sizeof(float));
}

void write(const float* channels, const std::int64_t* target, float* features, float* unused) {
    for (std::int64_t j = 0; j < register_lanes; j += 4) {
        float* to[4];
        for (int n = 0; n < 4; ++n) to[n] = target[j + n] < 0 ? unused : features + target[j + n];
        for (int channel = 0; channel < 28; channel += 4)
            write_four<false>(channels + j, channel, to);
        write_four<true>(channels + j, 28, to);
    }
}

}  // namespace

CellNormalizer::CellNormalizer(std::int64_t rows, std::int64_t cols)
    : rows_(rows),
      cols_(cols),
      target_(size(padded(rows * cols) + register_lanes), -1),
      energy_(padded(rows * cols) + cols + 1 + register_lanes),
      half_inverse_(padded(rows * cols) + register_lanes + 1) {
    std::int64_t next = 0;
    for (std::int64_t i = 1; i < rows - 1; ++i)
        for (std::int64_t j = 1; j < cols - 1; ++j, next += num_channels)
            target_[size(i * cols + j)] = next;
}

void CellNormalizer::run(const CellVotes& votes, float* features) {
    measure_blocks(votes);
    alignas(64) float channels[num_channels * register_lanes];
    float unused[num_channels];
    const float* bins = votes.bins();
    const float* inverse = half_inverse_.data() + 1;  // from index -1 on
    for (std::int64_t t = cols_; t < (rows_ - 1) * cols_; t += register_lanes) {
        // In voc-release's order: lower right, upper right, lower left, upper left.
        const Register norms[num_norms] = {load(inverse + t), load(inverse + t - cols_),
                                           load(inverse + t - 1), load(inverse + t - cols_ - 1)};
        normalise(bins + t, votes.plane_stride(), norms, channels);
        write(channels, target_.data() + t, features, unused);
    }
}

// A block that would wrap around to the next row only serves outer cells, which have no features.
void CellNormalizer::measure_blocks(const CellVotes& votes) {
    const float* bins = votes.bins();
    const std::int64_t stride = votes.plane_stride(), end = padded(rows_ * cols_);
    for (std::int64_t t = 0; t < end; t += register_lanes) {
        Register sum = {};
        for (int o = 0; o < num_unsigned; ++o) {
            const Register value =
                load(bins + o * stride + t) + load(bins + (o + num_unsigned) * stride + t);
            sum += value * value;
        }
        store(energy_.data() + t, sum);
    }
    const float* __restrict above = energy_.data();
    const float* __restrict below = energy_.data() + cols_;
    float* __restrict half_inverse = half_inverse_.data() + 1;
    for (std::int64_t t = 0; t < end; ++t)
        half_inverse[t] =
            0.5F / std::sqrt(above[t] + above[t + 1] + below[t] + below[t + 1] + norm_epsilon);
}

}  // namespace cliquesim::hog
