// Memory that starts at a cache line and is not set to zero first.
#pragma once

#include <cstdint>
#include <memory>
#include <new>

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
        data_.reset(static_cast<T*>(
            ::operator new(static_cast<std::size_t>(size) * sizeof(T), std::align_val_t{line})));
        size_ = size;
    }

    T* data() const { return data_.get(); }
    std::int64_t size() const { return size_; }

  private:
    static constexpr std::size_t line = 64;
    struct Release {
        void operator()(T* data) const { ::operator delete(data, std::align_val_t{line}); }
    };

    std::unique_ptr<T, Release> data_;
    std::int64_t size_ = 0;
};

}  // namespace cliquesim
