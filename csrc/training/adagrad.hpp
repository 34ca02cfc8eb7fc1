// AdaGrad over many tensors at once, without the launch: a thread block takes a chunk of one
// tensor. All addresses travel as the kernel's argument, so a CUDA graph keeps them; the learning
// rate is read from memory, so that it may change between two replays.
//
// Where the network reads weights in bfloat16, their gradient is bfloat16, too, and the rounded new
// weights are written along: no other pass converts either.
//
// Cost: 20 bytes a weight (weight, gradient and sum read, weight and sum written), also with
// bfloat16; 4 (2) where the gradient is 0 and nothing decays, as in the rows of all cliques that
// are not in the batch.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "common/bfloat16.hpp"
#include "common/host_device.hpp"

namespace cliquesim::training {

inline constexpr int adagrad_tensors = 64;  // of one launch: an argument holds 4 KiB
inline constexpr std::int64_t adagrad_chunk = 8192;

struct AdagradTensor {
    float* weights;
    const void* gradient;  // Bfloat16 if there are rounded weights, else float
    float* sums;           // of squared gradients
    Bfloat16* rounded;     // weights, or null
    std::int64_t count;
    float decay;  // lambda of Eq. (7)
};

struct AdagradLaunch {
    AdagradTensor tensors[adagrad_tensors];
    std::int64_t first_chunk[adagrad_tensors + 1];
    int count;
    float epsilon;
    const float* rate;

    CLIQUESIM_HOST_DEVICE std::int64_t chunks() const { return first_chunk[count]; }
};
static_assert(sizeof(AdagradLaunch) <= 4096, "more than a kernel's argument holds");

// All tensors, in as few launches as hold them.
inline std::vector<AdagradLaunch> adagrad_launches(std::span<const AdagradTensor> tensors,
                                                   const float* rate, float epsilon) {
    std::vector<AdagradLaunch> launches;
    for (std::size_t first = 0; first < tensors.size(); first += adagrad_tensors) {
        AdagradLaunch& launch = launches.emplace_back();
        launch.count =
            static_cast<int>(std::min<std::size_t>(adagrad_tensors, tensors.size() - first));
        launch.epsilon = epsilon;
        launch.rate = rate;
        for (int i = 0; i < launch.count; ++i) {
            launch.tensors[i] = tensors[first + static_cast<std::size_t>(i)];
            launch.first_chunk[i + 1] =
                launch.first_chunk[i] +
                (launch.tensors[i].count + adagrad_chunk - 1) / adagrad_chunk;
        }
    }
    return launches;
}

CLIQUESIM_HOST_DEVICE inline void adagrad_update(float& weight, float gradient, float& sum,
                                                 float decay, float rate, float epsilon) {
    const float slope = gradient + decay * weight;
    sum += slope * slope;
    weight -= rate * slope / (sqrtf(sum) + epsilon);
}

CLIQUESIM_HOST_DEVICE inline bool takes_fours(const AdagradTensor& tensor) {
    const auto all = reinterpret_cast<std::uintptr_t>(tensor.weights) |
                     reinterpret_cast<std::uintptr_t>(tensor.gradient) |
                     reinterpret_cast<std::uintptr_t>(tensor.sums) |
                     reinterpret_cast<std::uintptr_t>(tensor.rounded);
    return all % sizeof(Four<float>) == 0;
}

template <typename T>  // of the gradient
CLIQUESIM_HOST_DEVICE void adagrad_four(const AdagradTensor& tensor, std::int64_t i, float rate,
                                        float epsilon) {
    const Four<T> gradient =
        *reinterpret_cast<const Four<T>*>(static_cast<const T*>(tensor.gradient) + i);
    bool changes = tensor.decay != 0;
    for (const T& slope : gradient.values) changes = changes || to_float(slope) != 0;
    if (!changes) return;
    auto& weights = *reinterpret_cast<Four<float>*>(tensor.weights + i);
    auto& sums = *reinterpret_cast<Four<float>*>(tensor.sums + i);
    Four<float> weight = weights, sum = sums;
    for (int l = 0; l < 4; ++l)
        adagrad_update(weight.values[l], to_float(gradient.values[l]), sum.values[l], tensor.decay,
                       rate, epsilon);
    weights = weight;
    sums = sum;
    if (tensor.rounded == nullptr) return;
    Four<Bfloat16> rounded{};
    for (int l = 0; l < 4; ++l) rounded.values[l] = from_float<Bfloat16>(weight.values[l]);
    *reinterpret_cast<Four<Bfloat16>*>(tensor.rounded + i) = rounded;
}

template <typename T>
CLIQUESIM_HOST_DEVICE void adagrad_chunk_thread(const AdagradTensor& tensor, std::int64_t begin,
                                                std::int64_t end, float rate, float epsilon,
                                                int thread, int threads) {
    const std::int64_t fours = takes_fours(tensor) ? begin + (end - begin) / 4 * 4 : begin;
    for (std::int64_t i = begin + 4 * thread; i < fours; i += 4 * threads)
        adagrad_four<T>(tensor, i, rate, epsilon);
    for (std::int64_t i = fours + thread; i < end; i += threads) {
        adagrad_update(tensor.weights[i], to_float(static_cast<const T*>(tensor.gradient)[i]),
                       tensor.sums[i], tensor.decay, rate, epsilon);
        if (tensor.rounded != nullptr) tensor.rounded[i] = from_float<Bfloat16>(tensor.weights[i]);
    }
}

CLIQUESIM_HOST_DEVICE inline void adagrad_thread(const AdagradLaunch& launch, std::int64_t chunk,
                                                 int thread, int threads) {
    int index = 0;
    while (launch.first_chunk[index + 1] <= chunk) ++index;
    const AdagradTensor& tensor = launch.tensors[index];
    const std::int64_t begin = (chunk - launch.first_chunk[index]) * adagrad_chunk;
    const std::int64_t end =
        begin + adagrad_chunk < tensor.count ? begin + adagrad_chunk : tensor.count;
    if (tensor.rounded == nullptr)
        adagrad_chunk_thread<float>(tensor, begin, end, *launch.rate, launch.epsilon, thread,
                                    threads);
    else
        adagrad_chunk_thread<Bfloat16>(tensor, begin, end, *launch.rate, launch.epsilon, thread,
                                       threads);
}

}  // namespace cliquesim::training
