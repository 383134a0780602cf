#include "single/steps.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "core/threads.hpp"

namespace gossamer::single {

Range Worker::part_by_cost(const std::vector<std::int64_t>& starts) const {
    constexpr std::int64_t each = 4;
    const auto count = static_cast<std::int64_t>(starts.size()) - 1;
    const std::int64_t whole = starts.back() + each * count;
    const auto cut = [&](std::int64_t share) {
        const std::int64_t wanted = whole * share / members;
        std::int64_t first = 0;
        std::int64_t last = count;
        while (first < last) {
            const std::int64_t middle = (first + last) / 2;
            if (starts[middle] + each * middle < wanted)
                first = middle + 1;
            else
                last = middle;
        }
        return first;
    };
    return {cut(member), cut(member + 1)};
}

void Worker::wait_for_all() const {
    if (members > 1) team->wait_for_all();
}

void copy_plane(const float* from, std::int64_t from_pitch, float* to, std::int64_t to_pitch,
                std::int64_t height, std::int64_t width) {
    for (std::int64_t row = 0; row < height; ++row)
        std::copy_n(from + row * from_pitch, width, to + row * to_pitch);
}

PoolTask pool_task(const Pooling& pooling, const Shape& shape, std::int64_t pitch,
                   const Layout& output) {
    PoolTask task{};
    task.maximum = pooling.kind == PoolingKind::max;
    task.counts_padding = pooling.counts_padding;
    const auto set = [](std::int64_t (&to)[2], Pair from) {
        to[0] = from.height;
        to[1] = from.width;
    };
    set(task.kernel, pooling.kernel);
    set(task.stride, pooling.stride);
    set(task.padding, pooling.padding);
    set(task.dilation, pooling.dilation);
    task.height = shape.height;
    task.width = shape.width;
    task.pitch = pitch;
    task.output_height = output.height;
    task.output_width = output.width;
    task.output_pitch = output.pitch;
    task.output_room = output.plane - output.origin;
    return task;
}

namespace {

bool needs_clearing(const Layout& layout) {
    return layout.halo.height > 0 || layout.halo.width > 0;
}

float* image_of(const Layout& layout, float* scratch, std::int64_t channel) {
    return scratch + layout.place + channel * layout.plane + layout.origin;
}

std::int64_t pixels(const Layout& layout) {
    return layout.channels * layout.height * layout.width;
}

class Pool final : public Step {
  public:
    explicit Pool(const Site& site)
        : kernels_(site.kernels),
          input_(site.input()),
          output_(site.output()),
          rows_(site.shared),
          task_(pool_task(*site.layer().epilogue.pooling, site.plan.shapes[site.layer().inputs[0]],
                          input_.pitch, output_)) {}

    double nanoseconds() const override {
        return 0.1 * static_cast<double>(pixels(output_) * task_.kernel[0] * task_.kernel[1]);
    }
    std::int64_t room() const override { return output_.channels * (input_.width + slack); }

    void run(const Worker& worker) const noexcept override {
        const Range channels = worker.part(output_.channels);
        for (std::int64_t channel = channels.first; channel < channels.last; ++channel) {
            PoolTask task = task_;
            task.row = worker.scratch + rows_ + channel * (input_.width + slack);
            if (needs_clearing(output_)) clear_edges(output_, worker.scratch, channel);
            kernels_.pool(task, image_of(input_, worker.scratch, channel),
                          image_of(output_, worker.scratch, channel));
        }
    }

  private:
    const Kernels& kernels_;
    Layout input_;
    Layout output_;
    std::int64_t rows_;
    PoolTask task_;
};

class Pointwise final : public Step {
  public:
    explicit Pointwise(const Site& site)
        : kernels_(site.kernels),
          input_(site.input()),
          output_(site.output()),
          residual_(site.residual() != nullptr ? *site.residual() : Layout{}),
          has_residual_(site.residual() != nullptr),
          epilogue_(site.layer().epilogue) {}

    double nanoseconds() const override { return 0.2 * static_cast<double>(pixels(output_)); }

    void run(const Worker& worker) const noexcept override {
        const Range channels = worker.part(output_.channels);
        for (std::int64_t channel = channels.first; channel < channels.last; ++channel)
            run_channel(worker.scratch, channel);
    }

  private:
    void run_channel(float* scratch, std::int64_t channel) const {
        const bool scaled = !epilogue_.scale.empty();
        const RowTask task{output_.width, epilogue_.activation.kind, epilogue_.activation.alpha,
                           scaled ? epilogue_.scale[channel] : 1.0f,
                           scaled ? epilogue_.shift[channel] : 0.0f};
        if (needs_clearing(output_)) clear_around(output_, scratch, channel);
        const float* input = image_of(input_, scratch, channel);
        const float* residual = has_residual_ ? image_of(residual_, scratch, channel) : nullptr;
        float* output = image_of(output_, scratch, channel);
        for (std::int64_t row = 0; row < output_.height; ++row)
            kernels_.finish_row(task, input + row * input_.pitch,
                                has_residual_ ? residual + row * residual_.pitch : nullptr,
                                output + row * output_.pitch);
    }

    const Kernels& kernels_;
    Layout input_;
    Layout output_;
    Layout residual_;
    bool has_residual_;
    Epilogue epilogue_;
};

class Concatenate final : public Step {
  public:
    explicit Concatenate(const Site& site) : output_(site.output()) {
        for (std::size_t which = 0; which < site.layer().inputs.size(); ++which)
            inputs_.push_back(site.input(which));
    }

    double nanoseconds() const override { return 0.1 * static_cast<double>(pixels(output_)); }

    void run(const Worker& worker) const noexcept override {
        std::int64_t channel = 0;
        for (const Layout& input : inputs_) {
            const Range part = worker.part(input.channels);
            for (std::int64_t at = part.first; at < part.last; ++at) {
                if (needs_clearing(output_)) clear_around(output_, worker.scratch, channel + at);
                copy_plane(image_of(input, worker.scratch, at), input.pitch,
                           image_of(output_, worker.scratch, channel + at), output_.pitch,
                           input.height, input.width);
            }
            channel += input.channels;
        }
    }

  private:
    std::vector<Layout> inputs_;
    Layout output_;
};

class Softmax final : public Step {
  public:
    explicit Softmax(const Site& site)
        : input_(site.input()), output_(site.output()), logarithm_(site.layer().logarithm) {}

    double nanoseconds() const override { return 5.0 * static_cast<double>(pixels(output_)); }

    void run(const Worker& worker) const noexcept override {
        const Range rows = worker.part(output_.height);
        if (needs_clearing(output_)) {
            const Range channels = worker.part(output_.channels);
            for (std::int64_t at = channels.first; at < channels.last; ++at)
                clear_around(output_, worker.scratch, at);
            worker.wait_for_all();
        }
        for (std::int64_t row = rows.first; row < rows.last; ++row)
            for (std::int64_t x = 0; x < output_.width; ++x)
                run_position(image_of(input_, worker.scratch, 0) + row * input_.pitch + x,
                             image_of(output_, worker.scratch, 0) + row * output_.pitch + x);
    }

  private:
    void run_position(const float* input, float* output) const {
        float largest = input[0];
        for (std::int64_t channel = 1; channel < input_.channels; ++channel)
            largest = std::max(largest, input[channel * input_.plane]);
        double sum = 0.0;  // of thousands of numbers, for which a float has too few digits
        for (std::int64_t channel = 0; channel < input_.channels; ++channel) {
            const float power = std::exp(input[channel * input_.plane] - largest);
            output[channel * output_.plane] = power;
            sum += power;
        }
        const auto total = static_cast<float>(sum);
        const auto logarithm = static_cast<float>(std::log(sum));
        for (std::int64_t channel = 0; channel < input_.channels; ++channel) {
            float& value = output[channel * output_.plane];
            value = logarithm_ ? input[channel * input_.plane] - largest - logarithm
                               : value / total;
        }
    }

    Layout input_;
    Layout output_;
    bool logarithm_;
};

}  // namespace

std::unique_ptr<Step> make_pool(const Site& site) { return std::make_unique<Pool>(site); }

std::unique_ptr<Step> make_pointwise(const Site& site) {
    return std::make_unique<Pointwise>(site);
}

std::unique_ptr<Step> make_concatenate(const Site& site) {
    return std::make_unique<Concatenate>(site);
}

std::unique_ptr<Step> make_softmax(const Site& site) { return std::make_unique<Softmax>(site); }

}  // namespace gossamer::single
