// dlib's UoCTTI HOG on raw frames, for bench/hog.py and the tests.
//
//     dlib_hog FRAMES FEATURES COUNT HEIGHT WIDTH CHANNELS REPEATS
//
// FRAMES holds uint8 count x height x width x channels (1 or 3). Writes float32
// count x rows x cols x 31 to FEATURES, and prints the seconds of every repetition.
#include <dlib/image_transforms/fhog.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace {

using Features = dlib::array2d<dlib::matrix<float, 31, 1>>;

template <typename Pixel>
int run(char** words) {
    const long count = std::atol(words[3]), height = std::atol(words[4]),
               width = std::atol(words[5]), repeats = std::atol(words[7]);
    std::ifstream file(words[1], std::ios::binary);
    std::vector<dlib::array2d<Pixel>> frames(static_cast<std::size_t>(count));
    for (auto& frame : frames) {
        frame.set_size(height, width);
        file.read(reinterpret_cast<char*>(&frame[0][0]),
                  static_cast<std::streamsize>(height * width * static_cast<long>(sizeof(Pixel))));
    }
    if (!file) {
        std::fprintf(stderr, "%s is too short\n", words[1]);
        return 1;
    }
    std::vector<Features> features(frames.size());
    for (long repeat = 0; repeat < repeats; ++repeat) {
        const auto start = std::chrono::steady_clock::now();
        for (std::size_t i = 0; i < frames.size(); ++i)
            dlib::extract_fhog_features(frames[i], features[i], 8);
        const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
        std::printf("%.9f\n", seconds.count());
    }
    std::ofstream out(words[2], std::ios::binary);
    for (const auto& frame : features)
        for (long i = 0; i < frame.nr(); ++i)
            for (long j = 0; j < frame.nc(); ++j)
                out.write(reinterpret_cast<const char*>(&frame[i][j](0)), 31 * sizeof(float));
    return out ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 8) {
        std::fprintf(stderr, "see the head of dlib_hog.cpp\n");
        return 2;
    }
    return std::string(argv[6]) == "3" ? run<dlib::rgb_pixel>(argv) : run<unsigned char>(argv);
}
