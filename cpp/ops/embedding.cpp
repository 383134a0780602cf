// Rows of a table, by their numbers.
#include <cmath>
#include <limits>

#include "core/refusals.hpp"
#include "ops/layer.hpp"

namespace gossamer {
namespace {

class Embedding final : public Layer {
  public:
    explicit Embedding(Fields& fields) : weights_(fields.take<Weights>("weights")) {}

    Shape check(const Check& check) override {
        check.weights(weights_);
        return {true, taken[0].size(), 1, weights_.columns};
    }

    // A number that counts no row gives NaN and is noted; who calls refuses it.
    void run(const Strided* inputs, const Strided& output) const override {
        const Strided& input = inputs[0];
        for (std::int64_t place = 0; place < output.sizes[0]; ++place) {
            const float number = input.data[input.offset(place, 0, input.rank)];
            float* const to = output.data + place * output.strides[0];
            const bool sound = number >= 0.0f && number < static_cast<float>(weights_.rows) &&
                               number == std::floor(number);
            if (sound) {
                copy_row(static_cast<std::int64_t>(number), to, output.strides[2]);
            } else {
                note_refusal();
                fill(to, output.strides[2], std::numeric_limits<float>::quiet_NaN());
            }
        }
    }

  private:
    void fill(float* to, std::ptrdiff_t apart, float value) const {
        for (std::int64_t column = 0; column < weights_.columns; ++column)
            to[column * apart] = value;
    }

    void copy_row(std::int64_t row, float* to, std::ptrdiff_t apart) const {
        if (weights_.kind == WeightsKind::dense) {
            const float* const from = weights_.values.data() + row * weights_.columns;
            for (std::int64_t column = 0; column < weights_.columns; ++column)
                to[column * apart] = from[column];
            return;
        }
        const std::int64_t lanes = weights_.kind == WeightsKind::block ? block_rows : 1;
        const auto group = static_cast<std::size_t>(row / lanes);
        fill(to, apart, 0.0f);
        for (std::int64_t at = weights_.starts[group]; at < weights_.starts[group + 1]; ++at) {
            const auto place = static_cast<std::size_t>(at);
            to[weights_.indices[place] * apart] =
                weights_.values[place * static_cast<std::size_t>(lanes) +
                                static_cast<std::size_t>(row % lanes)];
        }
    }

    Weights weights_;
};

GOSSAMER_OPERATOR("embedding", Embedding)

}  // namespace
}  // namespace gossamer
