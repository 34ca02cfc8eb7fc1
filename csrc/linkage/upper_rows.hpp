// Views of the distances above the diagonal, stored as condensed rows or as a square.
#pragma once

#include <cstdint>
#include <type_traits>

#include "common/matrix.hpp"

namespace cliquesim {

// What a stored distance is computed with: 16-bit codes are compared as the floats they stand for.
template <typename S>
using ValueOf = std::conditional_t<std::is_same_v<std::remove_const_t<S>, double>, double, float>;

template <typename S>
class UpperRows {
  public:
    // SciPy's condensed order: (0,1), (0,2), ..., (1,2), ...
    UpperRows(S* condensed, std::int64_t n) : data_(condensed), n_(n) {}
    // Of a square only what is above the diagonal is touched.
    explicit UpperRows(MatrixView<S> square)
        : data_(square.data), n_(square.rows), stride_(square.stride) {}

    S* data() const { return data_; }
    std::int64_t size() const { return n_; }
    bool is_square() const { return stride_ > 0; }
    // row(i)[j] is the distance of i and j, for i < j.
    S* row(std::int64_t i) const {
        return data_ + (stride_ > 0 ? i * stride_ : i * (2 * n_ - i - 1) / 2 - i - 1);
    }
    S& at(std::int64_t i, std::int64_t j) const { return i < j ? row(i)[j] : row(j)[i]; }
    operator UpperRows<const S>() const { return UpperRows<const S>(data_, n_, stride_); }

  private:
    template <typename>
    friend class UpperRows;
    UpperRows(S* data, std::int64_t n, std::int64_t stride) : data_(data), n_(n), stride_(stride) {}

    S* data_;
    std::int64_t n_;
    std::int64_t stride_ = 0;  // 0: condensed
};

}  // namespace cliquesim
