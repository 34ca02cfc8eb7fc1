// Memory that starts at a cache line and is not set to zero first; large ones in large pages where
// the system has them, as products walk through megabytes.
#pragma once

#include <cstdint>
#include <memory>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace cliquesim {

template <typename T>
class AlignedBuffer {
  public:
    AlignedBuffer() = default;
    explicit AlignedBuffer(std::int64_t size) { reserve(size); }

    // What it held is lost when it grows.
    void reserve(std::int64_t size) {
        if (size <= size_) return;
        data_.reset();
        const auto bytes = static_cast<std::size_t>(size) * sizeof(T);
        const std::size_t align = bytes >= 2 * page ? page : line;
        data_ = {static_cast<T*>(::operator new(bytes, std::align_val_t{align})), Release{align}};
#if defined(__linux__)
        if (align == page) static_cast<void>(madvise(data_.get(), bytes, MADV_HUGEPAGE));
#endif
        size_ = size;
    }

    T* data() const { return data_.get(); }
    std::int64_t size() const { return size_; }

  private:
    static constexpr std::size_t line = 64, page = std::size_t{2} << 20;
    struct Release {
        std::size_t align = line;
        void operator()(T* data) const { ::operator delete(data, std::align_val_t{align}); }
    };

    std::unique_ptr<T, Release> data_;
    std::int64_t size_ = 0;
};

}  // namespace cliquesim
