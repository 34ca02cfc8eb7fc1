#include "hog/hog.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "common/errors.hpp"
#include "common/thread_pool.hpp"
#include "hog/gradients.hpp"

namespace cliquesim::hog {

namespace {

constexpr int num_unsigned = num_orientations / 2;
constexpr int num_bins = num_orientations + num_unsigned;
constexpr std::int64_t cell_stride = 32;  // num_bins, padded with zeros to whole SIMD registers
constexpr std::int64_t corners = 4;       // cells that share a pixel: two above, two below
constexpr std::int64_t copies = 2;        // accumulators, so that neighbours with the same bin
                                          // do not wait for each other's addition
constexpr std::int64_t block_size = copies * num_orientations * corners;
constexpr float norm_epsilon = 1e-4F;
constexpr float clip = 0.2F;
constexpr float texture_weight = 0.2357F;

// The bilinear vote of one pixel; GCC's and Clang's vector type, one register on every processor.
using Corners = float __attribute__((vector_size(corners * sizeof(float))));

Corners load(const float* from) {
    Corners value;
    std::memcpy(&value, from, sizeof(value));
    return value;
}

void store(float* to, Corners value) {
    std::memcpy(to, &value, sizeof(value));
}

std::size_t size(std::int64_t n) {
    return static_cast<std::size_t>(n);
}

// One worker's buffers and the two passes over one frame.
//
// A "block" is the square between four cell centres; all of its pixels vote into the same four
// cells. Votes are first summed per block, so that the bilinear vote of one pixel is a single
// 4-wide multiply-add, and folded into the cells once per row of blocks.
class Describer {
  public:
    Describer(const Frames& frames, std::int64_t cell_size);
    void run(const std::uint8_t* frame, float* features);

  private:
    void vote();
    void vote_row(std::int64_t y);
    void fold(std::int64_t block_row);
    void finish_cells();
    void normalise(float* features) const;

    float* cell(std::int64_t i, std::int64_t j) { return cells_.data() + cell_offset(i, j); }
    const float* cell(std::int64_t i, std::int64_t j) const {
        return cells_.data() + cell_offset(i, j);
    }
    // Cell -1 and the one after the last exist and take the votes that fall outside.
    std::int64_t cell_offset(std::int64_t i, std::int64_t j) const {
        return ((i + 1) * (cell_cols_ + 2) + j + 1) * cell_stride;
    }
    std::int64_t block_of(std::int64_t pixel) const {
        return (2 * pixel + 1 + cell_size_) / (2 * cell_size_);
    }
    std::int64_t block_start(std::int64_t block) const {
        return block * cell_size_ - (cell_size_ + 1) / 2;  // negative for the first
    }
    // Share of the cell below (right of) a pixel that is the k-th of its block.
    float share_of_next(std::int64_t k) const {
        const std::int64_t twice = 2 * k + 1 - cell_size_ % 2;
        return static_cast<float>(twice) / static_cast<float>(2 * cell_size_);
    }

    std::int64_t cell_size_, height_, cell_rows_, cell_cols_;
    GradientRows gradients_;
    std::vector<float> shares_;   // cell_size x 4: horizontal share of each corner
    std::vector<float> weights_;  // the same, times the row's vertical share
    std::vector<float> votes_;    // one row of blocks: block x copy x orientation x corner
    std::vector<float> cells_;
    std::vector<float> energy_;
};

Describer::Describer(const Frames& frames, std::int64_t cell_size)
    : cell_size_(cell_size),
      height_(frames.height),
      cell_rows_(cells_along(frames.height, cell_size)),
      cell_cols_(cells_along(frames.width, cell_size)),
      gradients_(frames.width, frames.channels, cell_cols_ * cell_size),
      shares_(size(cell_size * corners)),
      weights_(size(cell_size * corners)),
      votes_(size((cell_cols_ + 1) * block_size)),
      cells_(size((cell_rows_ + 2) * (cell_cols_ + 2) * cell_stride)),
      energy_(size(cell_rows_ * cell_cols_)) {
    for (std::int64_t k = 0; k < cell_size; ++k) {
        const float next = share_of_next(k);
        float* share = shares_.data() + k * corners;
        share[0] = share[2] = 1.0F - next;
        share[1] = share[3] = next;
    }
}

void Describer::run(const std::uint8_t* frame, float* features) {
    gradients_.start_frame(frame);
    std::fill(cells_.begin(), cells_.end(), 0.0F);
    vote();
    finish_cells();
    normalise(features);
}

void Describer::vote() {
    std::int64_t block_row = block_of(1), computed = 0;
    std::fill(votes_.begin(), votes_.end(), 0.0F);
    for (std::int64_t y = 1; y < cell_rows_ * cell_size_ - 1; ++y) {
        const std::int64_t source = std::min(y, height_ - 2);
        if (source != computed) gradients_.compute(source);
        computed = source;
        if (block_of(y) != block_row) {
            fold(block_row);
            std::fill(votes_.begin(), votes_.end(), 0.0F);
            block_row = block_of(y);
        }
        vote_row(y);
    }
    fold(block_row);
}

void Describer::vote_row(std::int64_t y) {
    const float below = share_of_next(y - block_start(block_of(y)));
    const float vertical[corners] = {1.0F - below, 1.0F - below, below, below};
    for (std::int64_t k = 0; k < cell_size_; ++k)
        for (std::int64_t c = 0; c < corners; ++c)
            weights_[size(k * corners + c)] = shares_[size(k * corners + c)] * vertical[c];

    const std::uint8_t* __restrict orientation = gradients_.orientation();
    const float* __restrict magnitude = gradients_.magnitude();
    const std::int64_t last = cell_cols_ * cell_size_ - 1;
    for (std::int64_t block = block_of(1); block <= cell_cols_; ++block) {
        const std::int64_t start = block_start(block);
        const std::int64_t begin = std::max<std::int64_t>(start, 1);
        const std::int64_t end = std::min(start + cell_size_, last);
        float* __restrict votes = votes_.data() + block * block_size;
        const float* __restrict weights = weights_.data();
        for (std::int64_t x = begin; x < end; ++x) {
            const std::int64_t copy = x % copies;
            float* vote = votes + (copy * num_orientations + orientation[x]) * corners;
            store(vote, load(vote) + magnitude[x] * load(weights + (x - start) * corners));
        }
    }
}

void Describer::fold(std::int64_t block_row) {
    for (std::int64_t block = 0; block <= cell_cols_; ++block) {
        const float* __restrict votes = votes_.data() + block * block_size;
        float* __restrict top = cell(block_row - 1, block - 1);
        float* __restrict bottom = cell(block_row, block - 1);
        for (int o = 0; o < num_orientations; ++o) {
            std::array<float, corners> sum;
            for (std::size_t c = 0; c < corners; ++c)
                sum[c] = votes[size(o * corners) + c] +
                         votes[size((num_orientations + o) * corners) + c];
            top[o] += sum[0];
            top[cell_stride + o] += sum[1];
            bottom[o] += sum[2];
            bottom[cell_stride + o] += sum[3];
        }
    }
}

void Describer::finish_cells() {
    for (std::int64_t i = 0; i < cell_rows_; ++i) {
        for (std::int64_t j = 0; j < cell_cols_; ++j) {
            float* bins = cell(i, j);
            float energy = 0;
            for (int o = 0; o < num_unsigned; ++o) {
                const float sum = bins[o] + bins[o + num_unsigned];
                bins[num_orientations + o] = sum;
                energy += sum * sum;
            }
            energy_[size(i * cell_cols_ + j)] = energy;
        }
    }
}

void Describer::normalise(float* features) const {
    // 1 / norm of the 2 x 2 cells whose upper left one is (i, j).
    const auto inverse_norm = [&](std::int64_t i, std::int64_t j) {
        const float* e = energy_.data() + i * cell_cols_ + j;
        return 1.0F / std::sqrt(e[0] + e[1] + e[cell_cols_] + e[cell_cols_ + 1] + norm_epsilon);
    };
    for (std::int64_t i = 1; i < cell_rows_ - 1; ++i) {
        for (std::int64_t j = 1; j < cell_cols_ - 1; ++j) {
            const float* __restrict bins = cell(i, j);
            // In voc-release's order: lower right, upper right, lower left, upper left.
            const float norms[4] = {inverse_norm(i, j), inverse_norm(i - 1, j),
                                    inverse_norm(i, j - 1), inverse_norm(i - 1, j - 1)};
            float sums[cell_stride] = {};
            for (int n = 0; n < 4; ++n) {
                float clipped[cell_stride];
                for (int o = 0; o < cell_stride; ++o) {
                    clipped[o] = std::min(bins[o] * norms[n], clip);
                    sums[o] += clipped[o];
                }
                float texture[8];
                for (int o = 0; o < 8; ++o) texture[o] = clipped[o] + clipped[o + 8];
                texture[0] += clipped[16];
                texture[1] += clipped[17];
                for (int half = 4; half > 0; half /= 2)
                    for (int o = 0; o < half; ++o) texture[o] += texture[o + half];
                features[num_bins + n] = texture_weight * texture[0];
            }
            for (int o = 0; o < num_bins; ++o) features[o] = 0.5F * sums[o];
            features += num_channels;
        }
    }
}

}  // namespace

void describe(const Frames& frames, std::int64_t cell_size, float* features,
              const Context& context) {
    require(cell_size >= 1, "cell_size must be at least 1");
    require(frames.channels == 1 || frames.channels == 3, "frames must have 1 or 3 channels");
    const std::int64_t rows = cells_along(frames.height, cell_size) - 2;
    const std::int64_t cols = cells_along(frames.width, cell_size) - 2;
    require(rows >= 1 && cols >= 1 && frames.height >= 3 && frames.width >= 3,
            "frames must have at least 3 x 3 cells");

    ThreadPool pool(context);
    std::vector<std::unique_ptr<Describer>> describers(static_cast<std::size_t>(pool.size()));
    const std::int64_t frame_size = frames.height * frames.width * frames.channels;
    const std::int64_t grain = std::max<std::int64_t>(1, (1 << 16) / frame_size);
    pool.parallel_for(
        frames.count,
        [&](std::int64_t index, int worker) {
            auto& describer = describers[static_cast<std::size_t>(worker)];
            if (!describer) describer = std::make_unique<Describer>(frames, cell_size);
            describer->run(frames.data + index * frame_size,
                           features + index * rows * cols * num_channels);
        },
        grain, 0.0, 1.0);
}

}  // namespace cliquesim::hog
