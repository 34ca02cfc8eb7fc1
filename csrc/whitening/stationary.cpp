#include <algorithm>
#include <vector>

#include "common/errors.hpp"
#include "common/thread_pool.hpp"
#include "whitening/whitening.hpp"

namespace cliquesim::whitening {

void average_over_offsets(MatrixView<const double> covariance, std::int64_t rows, std::int64_t cols,
                          std::int64_t channels, MatrixView<double> stationary,
                          const Context& context) {
    require(rows >= 1 && cols >= 1 && channels >= 1 && covariance.rows == rows * cols * channels &&
                covariance.cols == covariance.rows && stationary.rows == covariance.rows &&
                stationary.cols == covariance.rows,
            "the covariance must be square, of dimension rows x cols x channels");
    ThreadPool pool(context);
    const std::int64_t heights = 2 * rows - 1, widths = 2 * cols - 1;
    // One task per offset (dy, dx): it reads and writes the blocks of that offset only.
    pool.parallel_for(heights * widths, [&](std::int64_t task, int) {
        const std::int64_t dy = task / widths - (rows - 1), dx = task % widths - (cols - 1);
        const auto each_pair = [&](const auto& visit) {
            for (std::int64_t y = std::max<std::int64_t>(0, -dy); y < std::min(rows, rows - dy);
                 ++y)
                for (std::int64_t x = std::max<std::int64_t>(0, -dx); x < std::min(cols, cols - dx);
                     ++x)
                    visit((y * cols + x) * channels, ((y + dy) * cols + x + dx) * channels);
        };
        std::vector<double> mean(static_cast<std::size_t>(channels * channels));
        std::int64_t pairs = 0;
        each_pair([&](std::int64_t i, std::int64_t j) {
            ++pairs;
            for (std::int64_t a = 0; a < channels; ++a)
                for (std::int64_t b = 0; b < channels; ++b)
                    mean[static_cast<std::size_t>(a * channels + b)] += covariance(i + a, j + b);
        });
        for (double& value : mean) value /= static_cast<double>(pairs);
        each_pair([&](std::int64_t i, std::int64_t j) {
            for (std::int64_t a = 0; a < channels; ++a)
                std::copy_n(mean.data() + a * channels, channels, stationary.row(i + a) + j);
        });
    });
}

}  // namespace cliquesim::whitening
