// What a training step does beside the network's products. To its frames before the network sees
// them: random changes, and the fixed gradients that stand for colours. Within the network: batch
// norm and ReLU. The Python modules training/augmentation.py and training/backbones.py say the same
// in torch, for every other device.
#pragma once

#include <cstdint>
#include <span>

#include "common/context.hpp"
#include "common/matrix.hpp"

namespace cliquesim::training {

// Contiguous RGB frames: count x height x width x 3.
struct Frames {
    const std::uint8_t* data = nullptr;
    std::int64_t count = 0;
    std::int64_t height = 0;
    std::int64_t width = 0;
};

// Contiguous planes: count x 3 x height x width, 0 to 1.
struct Images {
    const float* data = nullptr;
    std::int64_t count = 0;
    std::int64_t height = 0;
    std::int64_t width = 0;
};

// What was drawn for every frame; coordinates are -1 to 1 from edge to edge. An empty span leaves
// its step out.
struct Changes {
    std::span<const float> affine;         // 6: takes the result's (x, y, 1) to the frame's
    std::span<const float> colour;         // 6: gain of R, G, B, brightness, contrast, saturation
    std::span<const std::int64_t> others;  // whose pixels replace the surroundings
    std::span<const float> ellipse;        // 2: half axes that surroundings begin at
    float softness = 0;                    // width of the ellipse's edge
    std::span<const float> erase;          // 4: left, right, top, bottom
};

// Writes count x 3 x height x width floats. Steps in the order of Changes; an erased rectangle gets
// the frame's mean colour. Pixels from outside a frame repeat its border.
void augment(const Frames& frames, const Changes& changes, float* images, const Context& context);

// How gradients are normalised: by the root mean square of their magnitude over a square of
// `window` pixels (odd), cut at the border, and `floor`.
struct GradientSettings {
    int window = 17;
    float floor = 0.02F;
};

// Magnitude m, m cos(2 angle) and m sin(2 angle) of the strongest colour channel's central
// differences, normalised: count x height x width x 3 floats to `channels`. `rows` (count x height)
// and `columns` (count x width) are weights of the result, both or neither.
void gradient_channels(const Images& images, const GradientSettings& settings,
                       std::span<const float> rows, std::span<const float> columns, float* channels,
                       const Context& context);

// Per channel.
struct Normalisation {
    std::span<const float> weight, bias;
    float epsilon = 1e-5F;
};

// y = max(0, weight (x - mean) / sqrt(variance + epsilon) + bias), with mean and variance (biased)
// of each channel over all rows, which are written, too: batch norm and ReLU in two passes over x.
// The rows are the pixels of all frames, the columns the channels of maps that have them last; T is
// float or Bfloat16. Sums are float within a chunk of rows and double over them.
template <typename T>
void normalise_and_rectify(const MatrixView<const T>& x, const Normalisation& norm, T* y,
                           float* mean, float* variance, const Context& context);

// Gradients of a loss from `dy`, that for y: in two passes over x and dy.
template <typename T>
void normalise_and_rectify_gradient(const MatrixView<const T>& x, const T* dy,
                                    const Normalisation& norm, const float* mean,
                                    const float* variance, T* dx, float* dweight, float* dbias,
                                    const Context& context);

}  // namespace cliquesim::training
