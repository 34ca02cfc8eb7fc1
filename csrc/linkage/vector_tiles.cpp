#include "linkage/vector_tiles.hpp"

#include <cmath>
#include <limits>
#include <string>

#include "common/errors.hpp"
#include "common/similarity.hpp"
#include "linkage/smallest.hpp"

namespace cliquesim {

namespace {

std::size_t index(std::int64_t i) {
    return static_cast<std::size_t>(i);
}

constexpr std::int64_t band_rows = 384;  // a multiple of tile_multiple; the tile stays in the cache

// Below this share of |a|^2 + |b|^2 the squared distance has lost too many digits.
template <typename T>
constexpr T cancellation = sizeof(T) == 4 ? T(1) / 32 : T(1) / 65536;

template <typename T>
using RowMap = Eigen::Map<const Eigen::Matrix<T, 1, Eigen::Dynamic>>;

}  // namespace

template <typename T>
VectorTiles<T>::VectorTiles(MatrixView<const T> vectors, Metric metric, ThreadPool& pool)
    : metric_(metric), dimensions_(vectors.cols), singles_(true), workspaces_(index(pool.size())) {
    make_bands(std::vector<std::int64_t>(index(vectors.rows), 1));
    rows_.resize(band_place_.back(), dimensions_);
    norms_.resize(index(band_place_.back()));
    standardize(vectors, pool);
}

template <typename T>
VectorTiles<T>::VectorTiles(VectorTiles&& finer, const Grouping& groups, ThreadPool& pool)
    : metric_(finer.metric_),
      dimensions_(finer.dimensions_),
      singles_(false),
      workspaces_(std::move(finer.workspaces_)) {
    std::vector<std::int64_t> sizes(index(groups.size()), 0);
    for (std::int64_t c = 0; c < groups.size(); ++c)
        for (const std::int32_t item : groups[c]) sizes[index(c)] += finer.items_[index(item)];
    make_bands(sizes);
    rows_.setZero(band_place_.back(), dimensions_);
    norms_.assign(index(band_place_.back()), T(0));
    pool.parallel_for(groups.size(), [&](std::int64_t c, int) {
        std::int64_t place = place_[index(c)];
        for (const std::int32_t item : groups[c]) {
            const std::int64_t from = finer.place_[index(item)], count = finer.items_[index(item)];
            rows_.middleRows(place, count) = finer.rows_.middleRows(from, count);
            std::copy_n(finer.norms_.data() + from, count, norms_.data() + place);
            place += count;
        }
    });
    finer.rows_.resize(0, 0);
}

// Whole clusters in bands of about band_rows rows; a larger cluster has a band of its own.
template <typename T>
void VectorTiles<T>::make_bands(const std::vector<std::int64_t>& sizes) {
    items_ = sizes;
    std::int64_t rows = 0, used = 0;
    for (std::size_t c = 0; c < sizes.size(); ++c) {
        if (c == 0 || used + sizes[c] > band_rows) {
            rows += round_up_to_tile(used);
            used = 0;
            this->bands_.push_back(static_cast<std::int64_t>(c));
            band_place_.push_back(rows);
        }
        place_.push_back(rows + used);
        used += sizes[c];
    }
    this->bands_.push_back(static_cast<std::int64_t>(sizes.size()));
    band_place_.push_back(rows + round_up_to_tile(used));
}

// Rows in the form in which the metric is a (squared) euclidean distance or a product: centred by
// column, which changes no euclidean distance and keeps cancellation small, or of unit length.
template <typename T>
void VectorTiles<T>::standardize(MatrixView<const T> vectors, ThreadPool& pool) {
    const bool directions = metric_ == Metric::cosine || metric_ == Metric::correlation;
    Eigen::RowVectorXd mean = Eigen::RowVectorXd::Zero(dimensions_);
    if (metric_ == Metric::euclidean || metric_ == Metric::sqeuclidean) {
        for (std::int64_t i = 0; i < vectors.rows; ++i)
            mean += RowMap<T>(vectors.row(i), dimensions_).template cast<double>();
        mean /= static_cast<double>(vectors.rows);
    }
    rows_.setZero();
    std::fill(norms_.begin(), norms_.end(), T(0));
    pool.parallel_for(
        vectors.rows,
        [&](std::int64_t i, int) {
            Eigen::RowVectorXd row =
                RowMap<T>(vectors.row(i), dimensions_).template cast<double>() - mean;
            if (directions) {
                const double before = row.norm();
                const bool center = metric_ == Metric::correlation;
                if (center) row.array() -= row.mean();
                const double norm = row.norm();
                require(norm > 1e-12 * before && norm > 0,
                        "row " + std::to_string(i) + (center ? " is constant" : " is zero") +
                            ", so that its distance is not defined");
                row /= norm;
            }
            const std::int64_t place = place_[index(i)];
            rows_.row(place) = row.template cast<T>();
            norms_[index(place)] =
                static_cast<T>(rows_.row(place).template cast<double>().squaredNorm());
        },
        64);
    for (std::int64_t i = 0; i < vectors.rows; ++i)
        require(norms_[index(place_[index(i)])] <= std::numeric_limits<T>::max() / 4,
                "row " + std::to_string(i) + " has too large values: its squared length overflows");
}

// Distances of `count` rows to the rows of rows_ from `col` on; all multiples of tile_multiple.
template <typename T>
void VectorTiles<T>::pairwise(const T* rows, const T* norms, std::int64_t count, std::int64_t col,
                              std::int64_t width, T* out) const {
    const Eigen::Map<const RowMajor> left(rows, count, dimensions_);
    Eigen::Map<RowMajor> product(out, count, width);
    product.noalias() = left * rows_.middleRows(col, width).transpose();
    if (metric_ == Metric::dot) {
        product = -product;
        return;
    }
    const T* col_norms = norms_.data() + col;
    for (std::int64_t i = 0; i < count; ++i) {
        T* values = out + i * width;
        bool inexact = false;
        for (std::int64_t j = 0; j < width; ++j) {
            const T sum = norms[i] + col_norms[j];
            values[j] = sum - 2 * values[j];
            inexact |= values[j] < cancellation<T> * sum;
        }
        if (inexact)
            for (std::int64_t j = 0; j < width; ++j)
                if (values[j] < cancellation<T> * (norms[i] + col_norms[j]))
                    values[j] = (left.row(i) - rows_.row(col + j)).squaredNorm();
        if (metric_ == Metric::euclidean)
            for (std::int64_t j = 0; j < width; ++j) values[j] = std::sqrt(values[j]);
        else if (metric_ != Metric::sqeuclidean)  // for unit vectors 1 - a.b = |a - b|^2 / 2
            for (std::int64_t j = 0; j < width; ++j) values[j] /= 2;
    }
}

template <typename T>
UpperRows<const T> VectorTiles<T>::tile(std::int64_t band, std::int64_t first, std::int64_t last,
                                        int worker) {
    Workspace& space = workspaces_[index(worker)];
    const std::int64_t row_begin = this->bands_[index(band)];
    const std::int64_t col_begin = this->bands_[index(first)];
    space.distances.resize(index(band_rows * band_rows));
    const T* data = space.distances.data();
    std::int64_t stride = this->bands_[index(last)] - col_begin;
    if (singles_) {
        const std::int64_t place = band_place_[index(band)], col = band_place_[index(first)];
        stride = band_place_[index(last)] - col;
        pairwise(rows_.row(place).data(), norms_.data() + place,
                 band_place_[index(band) + 1] - place, col, stride, space.distances.data());
    } else {
        const std::int64_t rows = this->bands_[index(band) + 1] - row_begin;
        space.clusters.assign(index(rows * stride), -std::numeric_limits<T>::infinity());
        farthest_pairs(band, first, last, space);
        data = space.clusters.data();
    }
    return UpperRows<const T>(MatrixView<const T>(data - row_begin * stride - col_begin,
                                                  this->size(), this->size(), stride));
}

// Distances of the clusters of a band to those of a stretch: block by block of vectors.
template <typename T>
void VectorTiles<T>::farthest_pairs(std::int64_t band, std::int64_t first, std::int64_t last,
                                    Workspace& space) const {
    const std::int64_t end = band_place_[index(band) + 1], col_end = band_place_[index(last)];
    for (std::int64_t r = band_place_[index(band)]; r < end; r += band_rows) {
        const std::int64_t height = std::min(band_rows, end - r);
        for (std::int64_t c = band_place_[index(first)]; c < col_end; c += band_rows) {
            const Block block{r, height, c, std::min(band_rows, col_end - c)};
            pairwise(rows_.row(r).data(), norms_.data() + r, height, c, block.width,
                     space.distances.data());
            raise_to_farthest(block, band, first, last, space);
        }
    }
}

// The band's clusters' distances become at least those of the block's pairs of vectors.
template <typename T>
void VectorTiles<T>::raise_to_farthest(const Block& block, std::int64_t band, std::int64_t first,
                                       std::int64_t last, Workspace& space) const {
    const std::int64_t row_begin = this->bands_[index(band)];
    const std::int64_t row_end = this->bands_[index(band) + 1];
    const std::int64_t col_begin = this->bands_[index(first)], col_end = this->bands_[index(last)];
    const std::int64_t col_stop = block.col + block.width;
    // The last cluster that begins at or before the block's first column.
    const auto place = place_.begin();
    const std::int64_t from =
        std::upper_bound(place + col_begin, place + col_end, block.col) - place - 1;
    for (std::int64_t a = row_begin; a < row_end; ++a) {
        const std::int64_t begin = std::max(place_[index(a)], block.row);
        const std::int64_t end =
            std::min(place_[index(a)] + items_[index(a)], block.row + block.height);
        if (begin >= end) continue;
        T* farthest = space.distances.data() + (begin - block.row) * block.width;
        for (std::int64_t i = begin + 1; i < end; ++i) {
            const T* other = space.distances.data() + (i - block.row) * block.width;
            for (std::int64_t j = 0; j < block.width; ++j)
                farthest[j] = farthest[j] < other[j] ? other[j] : farthest[j];
        }
        T* out = space.clusters.data() + (a - row_begin) * (col_end - col_begin);
        for (std::int64_t b = from; b < col_end && place_[index(b)] < col_stop; ++b) {
            const std::int64_t stop = std::min(place_[index(b)] + items_[index(b)], col_stop);
            T& known = out[b - col_begin];
            for (std::int64_t j = std::max(place_[index(b)], block.col); j < stop; ++j)
                known = std::max(known, farthest[j - block.col]);
        }
    }
}

// From every 32nd vector's distances to all: the 4th smallest of that sample is the 128th of all.
template <typename T>
std::vector<T> VectorTiles<T>::estimate_limits(ThreadPool& pool) {
    constexpr T infinity = std::numeric_limits<T>::infinity();
    constexpr std::int64_t share = 32;
    const std::int64_t n = this->size();
    std::vector<T> limits(index(n), infinity);
    if (!singles_ || n < 2 * share * SmallestValues<T>::rank) return limits;
    std::vector<std::int64_t> sample;
    for (std::int64_t i = 0; i < n; i += share) sample.push_back(i);
    const std::int64_t padded = round_up_to_tile(static_cast<std::int64_t>(sample.size()));
    RowMajor rows = RowMajor::Zero(padded, dimensions_);
    std::vector<T> norms(index(padded), T(0));
    for (std::size_t s = 0; s < sample.size(); ++s) {
        rows.row(static_cast<Eigen::Index>(s)) = rows_.row(place_[index(sample[s])]);
        norms[s] = norms_[index(place_[index(sample[s])])];
    }
    pool.parallel_for(this->num_bands(), [&](std::int64_t band, int worker) {
        auto& distances = workspaces_[index(worker)].distances;
        distances.resize(index(band_rows * band_rows));
        const std::int64_t begin = this->bands_[index(band)], end = this->bands_[index(band) + 1];
        const std::int64_t place = band_place_[index(band)];
        const std::int64_t width = band_place_[index(band) + 1] - place;
        SmallestValues<T> smallest(width);
        for (std::int64_t r = 0; r < padded; r += band_rows) {
            const std::int64_t height = std::min(band_rows, padded - r);
            pairwise(rows.row(r).data(), norms.data() + r, height, place, width, distances.data());
            for (std::int64_t i = r; i < std::min<std::int64_t>(r + height, std::ssize(sample));
                 ++i) {
                T* values = distances.data() + (i - r) * width;
                const std::int64_t self = sample[index(i)] - begin;
                if (self >= 0 && self < end - begin) values[self] = infinity;
                smallest.add(values, 0, end - begin);
            }
        }
        for (std::int64_t i = begin; i < end; ++i) limits[index(i)] = smallest.last(i - begin);
    });
    return limits;
}

template <typename T>
std::pair<T, T> VectorTiles<T>::range() const {
    T longest = 0;
    for (const T norm : norms_) longest = std::max(longest, norm);
    switch (metric_) {
        case Metric::euclidean:
            return {T(0), 2 * std::sqrt(longest)};
        case Metric::sqeuclidean:
            return {T(0), 4 * longest};
        case Metric::dot:
            return {-longest, longest};
        default:
            return {T(0), T(2)};
    }
}

template class VectorTiles<float>;
template class VectorTiles<double>;

}  // namespace cliquesim
