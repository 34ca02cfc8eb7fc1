// Non-owning view of a row-major matrix whose rows may be padded.
#pragma once

#include <cstdint>
#include <span>

namespace cliquesim {

template <typename T>
struct MatrixView {
    T* data = nullptr;
    std::int64_t rows = 0;
    std::int64_t cols = 0;
    std::int64_t stride = 0;  // elements from one row to the next

    MatrixView() = default;
    MatrixView(T* data_, std::int64_t rows_, std::int64_t cols_)
        : MatrixView(data_, rows_, cols_, cols_) {}
    MatrixView(T* data_, std::int64_t rows_, std::int64_t cols_, std::int64_t stride_)
        : data(data_), rows(rows_), cols(cols_), stride(stride_) {}

    T* row(std::int64_t i) const { return data + i * stride; }
    T& operator()(std::int64_t i, std::int64_t j) const { return data[i * stride + j]; }
    std::span<T> row_span(std::int64_t i) const { return {row(i), static_cast<std::size_t>(cols)}; }
    operator MatrixView<const T>() const { return {data, rows, cols, stride}; }
};

}  // namespace cliquesim
