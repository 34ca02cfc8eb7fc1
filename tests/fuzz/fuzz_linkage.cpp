// Bytes as input of the linkage: whatever they say, it is refused with std::invalid_argument or the
// dendrogram is valid. LLVMFuzzerTestOneInput is libFuzzer's entry; without -DCLIQUESIM_LIBFUZZER
// main() feeds it random bytes:  cliquesim_fuzz_linkage [RUNS] [SEED]
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <stdexcept>
#include <vector>

#include "linkage/linkage.hpp"

namespace {

using namespace cliquesim;

class Bytes {
  public:
    Bytes(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}

    std::uint32_t below(std::uint32_t limit) {
        std::uint32_t value = 0;
        for (int i = 0; i < 2 && size_ > 0; ++i, ++data_, --size_) value = value << 8 | *data_;
        return value % limit;
    }

    // Mostly few different numbers, for the sake of ties; now and then what must be refused.
    float number() {
        const std::uint32_t kind = below(64);
        if (kind == 0) return std::numeric_limits<float>::quiet_NaN();
        if (kind == 1) return -std::numeric_limits<float>::infinity();
        if (kind < 6) return std::numeric_limits<float>::infinity();
        if (kind < 8) return std::numeric_limits<float>::max();
        return static_cast<float>(below(kind < 32 ? 7 : 65536));
    }

  private:
    const std::uint8_t* data_;
    std::size_t size_;
};

void check(bool condition, const char* what) {
    if (condition) return;
    std::fprintf(stderr, "fuzz_linkage: %s\n", what);
    std::abort();
}

void check_dendrogram(const std::vector<double>& rows, std::int64_t n) {
    std::vector<double> size(static_cast<std::size_t>(2 * n - 1), 1);
    std::vector<bool> used(size.size(), false);
    double before = -std::numeric_limits<double>::infinity();
    for (std::int64_t i = 0; i + 1 < n; ++i) {
        const double* row = rows.data() + 4 * i;
        const auto a = static_cast<std::size_t>(row[0]), b = static_cast<std::size_t>(row[1]);
        check(a < b && b < static_cast<std::size_t>(n + i), "a cluster that is not there yet");
        check(!used[a] && !used[b], "a cluster that is merged twice");
        used[a] = used[b] = true;
        check(!std::isnan(row[2]) && row[2] >= before, "heights do not ascend");
        before = row[2];
        size[static_cast<std::size_t>(n + i)] = size[a] + size[b];
        check(row[3] == size[a] + size[b], "a wrong size");
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t length) {
    Bytes bytes(data, length);
    const auto n = static_cast<std::int64_t>(1 + bytes.below(40));
    const Context context{static_cast<int>(1 + bytes.below(2)), nullptr};
    const LinkageTuning tuning{1 + bytes.below(6), 1 + bytes.below(12)};
    const bool negate = bytes.below(2) == 1;
    std::vector<double> dendrogram(static_cast<std::size_t>(4 * (n - 1)));
    const MatrixView<double> out(dendrogram.data(), n - 1, 4);
    try {
        switch (bytes.below(4)) {
            case 0: {
                std::vector<float> y(static_cast<std::size_t>(n * (n - 1) / 2));
                for (float& value : y) value = bytes.number();
                const UpperRows<float> rows(y.data(), n);
                linkage_of_distances<float>(rows, negate, bytes.below(20000), out, context, tuning);
                break;
            }
            case 1: {
                std::vector<float> y(static_cast<std::size_t>(n * n));
                for (float& value : y) value = bytes.number();
                linkage_overwriting(UpperRows<float>(MatrixView<float>(y.data(), n, n)), negate,
                                    out, context, tuning);
                break;
            }
            case 2: {
                const auto dimensions = static_cast<std::int64_t>(1 + bytes.below(5));
                std::vector<float> x(static_cast<std::size_t>(n * dimensions));
                for (float& value : x) value = static_cast<float>(bytes.below(9)) - 4;
                linkage_of_vectors(MatrixView<const float>(x.data(), n, dimensions),
                                   static_cast<Metric>(bytes.below(5)),
                                   static_cast<Storage>(bytes.below(4)), bytes.below(20000), out,
                                   context, tuning);
                break;
            }
            default: {
                std::vector<std::int64_t> offsets{0}, columns;
                std::vector<float> values;
                for (std::int64_t i = 0; i < n; ++i)
                    offsets.push_back(offsets.back() + bytes.below(6));
                if (bytes.below(16) == 0) offsets[bytes.below(static_cast<std::uint32_t>(n))] = 3;
                for (std::int64_t e = 0; e < offsets.back(); ++e) {
                    columns.push_back(static_cast<std::int64_t>(bytes.below(
                                          static_cast<std::uint32_t>(n + (n > 30 ? 1 : 0)))) -
                                      (bytes.below(200) == 0 ? 1 : 0));
                    values.push_back(bytes.number());
                }
                linkage_of_graph<float>(offsets, columns, values, negate, out, context, tuning);
            }
        }
    } catch (const std::invalid_argument&) {
        return 0;
    }
    check_dendrogram(dendrogram, n);
    return 0;
}

#ifndef CLIQUESIM_LIBFUZZER
int main(int argc, char** argv) {
    const long runs = argc > 1 ? std::atol(argv[1]) : 20000;
    std::mt19937 generator(argc > 2 ? static_cast<unsigned>(std::atol(argv[2])) : 0);
    std::vector<std::uint8_t> bytes;
    for (long run = 0; run < runs; ++run) {
        bytes.resize(generator() % 4000);
        for (auto& byte : bytes) byte = static_cast<std::uint8_t>(generator());
        LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
    }
    std::printf("%ld inputs\n", runs);
    return 0;
}
#endif
