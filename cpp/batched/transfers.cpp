// The loops of batched/transfers.hpp, compiled once for each instruction set (simd/dispatch.hpp).
#include "batched/transfers.hpp"

#include "simd/transpose.hpp"

namespace gossamer::batched {
namespace {

void take_features(const float* inputs, int64_t examples, const View& value) {
    for (int64_t i = 0; i < value.channels; i += numbers_at_once) {
        take_numbers(inputs + i, examples, value.channels,
                     least(numbers_at_once, value.channels - i), value.data + i * value.channel,
                     value.pixels * width, value.channel);
    }
}

void give_features(const View& value, float* outputs, int64_t examples) {
    for (int64_t i = 0; i < value.channels; i += numbers_at_once) {
        give_numbers(value.data + i * value.channel, value.channel,
                     least(numbers_at_once, value.channels - i), outputs + i, examples,
                     value.channels);
    }
}

void take_image(const float* inputs, int64_t examples, const View& value) {
    const int64_t size = value.channels * value.rows * value.pixels;
    for (int64_t row = 0; row < value.channels * value.rows; ++row) {
        take_numbers(inputs + row * value.pixels, examples, size, value.pixels,
                     value.data + row / value.rows * value.channel + row % value.rows * value.row,
                     width, width);
    }
}

void give_image(const View& value, float* outputs, int64_t examples) {
    const int64_t size = value.channels * value.rows * value.pixels;
    for (int64_t row = 0; row < value.channels * value.rows; ++row) {
        give_numbers(value.data + row / value.rows * value.channel + row % value.rows * value.row,
                     width, value.pixels, outputs + row * value.pixels, examples, size);
    }
}

}  // namespace

GOSSAMER_EXPORT(TransferLoops, transfer_loops,
                {take_features, take_image, give_features, give_image})

}  // namespace gossamer::batched
