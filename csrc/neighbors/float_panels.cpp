#include "neighbors/float_panels.hpp"

#include <array>
#include <vector>

#include "common/similarity.hpp"
#include "neighbors/float_products.hpp"

namespace cliquesim {

void FloatPanels::keep(ThreadPool& pool) {
    const std::int64_t size = blocks_.edge() * panel_depth(rows_.cols);
    kept_.reserve(blocks_.count() * size);
    pool.parallel_for(blocks_.count(),
                      [&](std::int64_t b, int) { pack(b, kept_.data() + b * size); });
}

const float* FloatPanels::block(std::int64_t block, AlignedBuffer<float>& scratch) const {
    const std::int64_t size = blocks_.edge() * panel_depth(rows_.cols);
    if (kept_.size() > 0) return kept_.data() + block * size;
    scratch.reserve(size);
    pack(block, scratch.data());
    return scratch.data();
}

void FloatPanels::pack(std::int64_t block, float* out) const {
    const std::int64_t depth = rows_.cols;
    const std::vector<float> zeros(static_cast<std::size_t>(depth), 0.0f);
    std::vector<float> standardized(
        static_cast<std::size_t>(standardize_ ? panel_rows * depth : 0));
    const MatrixView<float> copies(standardized.data(), panel_rows, depth);
    std::array<const float*, panel_rows> rows;
    for (std::int64_t place = 0; place < blocks_.places(block);
         place += panel_rows, out += panel_rows * panel_depth(depth)) {
        for (std::int64_t r = 0; r < panel_rows; ++r) {
            const std::int64_t row = blocks_.row_at(block, place + r);
            const float*& from = rows[static_cast<std::size_t>(r)];
            from = row < 0 ? zeros.data() : rows_.row(row);
            if (row < 0 || !standardize_) continue;
            standardize_row(rows_.row_span(row), copies.row_span(r));
            from = copies.row(r);
        }
        pack_chains(rows.data(), depth, out);
    }
}

}  // namespace cliquesim
