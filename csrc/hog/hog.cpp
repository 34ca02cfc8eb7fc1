#include "hog/hog.hpp"

#include <algorithm>
#include <memory>
#include <vector>

#include "common/errors.hpp"
#include "common/thread_pool.hpp"
#include "hog/cells.hpp"
#include "hog/gradients.hpp"

namespace cliquesim::hog {

namespace {

// One worker's buffers and the passes over one frame.
class Describer {
  public:
    Describer(const Frames& frames, std::int64_t cell_size)
        : Describer(frames, cell_size, cells_along(frames.height, cell_size),
                    cells_along(frames.width, cell_size)) {}

    void run(const std::uint8_t* frame, float* features) {
        gradients_.start_frame(frame);
        votes_.start_frame();
        std::int64_t computed = 0;
        for (std::int64_t y = 1; y < extended_height_ - 1; ++y) {
            const std::int64_t source = std::min(y, height_ - 2);
            if (source != computed) gradients_.compute(source);
            computed = source;
            votes_.add_row(y, gradients_.magnitude(), gradients_.slots());
        }
        votes_.finish_frame();
        normalizer_.run(votes_, features);
    }

  private:
    Describer(const Frames& frames, std::int64_t cell_size, std::int64_t rows, std::int64_t cols)
        : height_(frames.height),
          extended_height_(rows * cell_size),
          gradients_(frames, cols * cell_size, CellVotes::pixels_before(cell_size),
                     (cols + 1) * cell_size),
          votes_(rows, cols, cell_size),
          normalizer_(rows, cols) {}

    std::int64_t height_, extended_height_;
    GradientRows gradients_;
    CellVotes votes_;
    CellNormalizer normalizer_;
};

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
