// Runs a plan for a tile of many examples at once, on the calling thread.

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <utility>

#include "caches.hpp"
#include "plan.hpp"
#include "wide_kernels.hpp"
#include "wide_layout.hpp"
#include "wide_matrix.hpp"

namespace gossamer {

const WideKernels& wide_kernels(InstructionSet set) {
#ifdef GOSSAMER_X86
    if (set == InstructionSet::avx512) return wide_kernels_avx512();
    if (set == InstructionSet::avx2) return wide_kernels_avx2();
#endif
    (void)set;
    return wide_kernels_baseline();
}

namespace {

// The examples at hand.
struct Batch {
    const float* inputs;
    float* outputs;
    std::int64_t count;
    float* scratch;
    std::int64_t groups;  // that hold an example
};

// What all steps know.
struct Context {
    const WideKernels& kernels;
    WideLayout layout;
    Caches caches;

    // All that is computed of a value at once: an image of one group, or the features of all.
    View view(const Place& place, const Batch& batch, std::int64_t group) const {
        return place.shape.image ? layout.of_group(place, batch.scratch, group)
                                 : layout.of_groups(place, batch.scratch, batch.groups);
    }
    View view(int value, const Batch& batch, std::int64_t group) const {
        return view(layout.place(value), batch, group);
    }
    void clear_halo(int value, const Batch& batch, std::int64_t group) const {
        const Place& place = layout.place(value);
        if (place.halo[0] == 0 && place.halo[1] == 0) return;
        kernels.clear_halo(layout.of_group(place, batch.scratch, group), place.halo[0],
                           place.halo[1]);
    }
};

// One layer at work. In a segment of images `group` is the one at hand, elsewhere it is 0.
class Step {
  public:
    virtual ~Step() = default;
    virtual void run(const Context& context, const Batch& batch, std::int64_t group) const = 0;
};

Finish finish_of(const Epilogue& epilogue) {
    const bool affine = !epilogue.scale.empty();
    return {epilogue.activation.kind, epilogue.activation.alpha,
            affine ? epilogue.scale.data() : nullptr, affine ? epilogue.shift.data() : nullptr};
}

Window window_of(const Pooling& pooling) {
    return {pooling.kind,
            {pooling.kernel.height, pooling.kernel.width},
            {pooling.stride.height, pooling.stride.width},
            {pooling.padding.height, pooling.padding.width},
            {pooling.dilation.height, pooling.dilation.width},
            pooling.counts_padding};
}

// ---- linear layers and convolutions

// How many outputs are computed at once: pixels of one row, or of two rows that are pooled.
struct StripShape {
    std::int64_t rows;
    std::int64_t pixels;
};

class Product : public Step {
  public:
    Product(const Context& context, const Layer& layer, int number);

    std::int64_t partial_size() const { return partial_size_; }
    void set_partial(std::int64_t offset) { partial_ = offset; }

    void run(const Context& context, const Batch& batch, std::int64_t group) const override;

  private:
    StripShape strip_shape(const Context& context) const;
    Cut cut(const Context& context) const;
    std::int32_t offset(const Place& input, std::int64_t width, std::int64_t row,
                        std::int64_t column) const;
    StripKernel kernel(const WideKernels& kernels, std::int64_t pixels) const;

    Layer layer_;  // without its weights
    int number_;
    bool pooled_;  // in registers
    std::int64_t inputs_per_group_;
    StripShape strip_;
    std::unique_ptr<PackedMatrix> matrix_;
    std::int64_t partial_size_ = 0;
    std::int64_t partial_ = 0;
};

Product::Product(const Context& context, const Layer& layer, int number)
    : layer_(layer), number_(number), pooled_(pools_in_registers(layer)) {
    const Place& input = context.layout.place(layer.inputs[0]);
    inputs_per_group_ = input.shape.channels / layer.groups;
    strip_ = strip_shape(context);
    const Cut cuts = cut(context);
    matrix_ = std::make_unique<PackedMatrix>(
        layer.weights, layer.groups, cuts,
        [&](std::int64_t row, std::int64_t column) {
            return offset(input, context.kernels.width, row, column);
        });
    if (cuts.slice_columns.size() > 2) {
        partial_size_ = std::min(cuts.rows, (layer.weights.rows + 3) / 4 * 4) * strip_.rows *
                        strip_.pixels * context.kernels.width;
    }
    layer_.weights = Weights{};
    layer_.weights.rows = layer.weights.rows;
}

StripShape Product::strip_shape(const Context& context) const {
    if (pooled_) return {2, std::min<std::int64_t>(pair_pixels, layer_.sums.width / 2 * 2)};
    const std::int64_t width =
        layer_.sums.image ? layer_.sums.width : context.layout.tile().groups;
    return {1, std::min<std::int64_t>(strip_pixels, width)};
}

Cut Product::cut(const Context& context) const {
    const Weights& weights = layer_.weights;
    const auto covered = [](std::int64_t outputs, std::int64_t stride, std::int64_t kernel,
                            std::int64_t dilation) {
        return std::min((outputs - 1) * stride + dilation * (kernel - 1) + 1, outputs * kernel);
    };
    // What a strip reads of one channel.
    const std::int64_t bytes =
        4 * context.kernels.width *
        covered(strip_.rows, layer_.stride.height, layer_.kernel.height, layer_.dilation.height) *
        covered(strip_.pixels, layer_.stride.width, layer_.kernel.width, layer_.dilation.width);
    // Blocks need an input for 4 rows at a time, so seldom that it may come from the second cache.
    const std::int64_t room = context.caches.first * (weights.kind == WeightsKind::sparse ? 1 : 2);
    std::int64_t slices = (inputs_per_group_ * bytes + room - 1) / room;
    // Taking sums out of memory and putting them back must be worth it.
    const auto stored = static_cast<std::int64_t>(weights.values.size());
    slices = std::min({slices, inputs_per_group_, stored / (8 * weights.rows)});
    slices = std::max<std::int64_t>(slices, 1);

    Cut cut;
    const std::int64_t taps = layer_.kernel.height * layer_.kernel.width;
    for (std::int64_t slice = 0; slice <= slices; ++slice) {
        cut.slice_columns.push_back(inputs_per_group_ * slice / slices * taps);
    }
    const std::int64_t sums = 4 * context.kernels.width * strip_.rows * strip_.pixels;
    const std::int64_t fitting = context.caches.second / 2 / sums / block_rows * block_rows;
    cut.rows = slices > 1 ? std::max(fitting, block_rows)
                          : (weights.rows + block_rows - 1) / block_rows * block_rows;
    return cut;
}

std::int32_t Product::offset(const Place& input, std::int64_t width, std::int64_t row,
                             std::int64_t column) const {
    const std::int64_t taps = layer_.kernel.height * layer_.kernel.width;
    const std::int64_t group = row / (layer_.weights.rows / layer_.groups);
    const std::int64_t channel = group * inputs_per_group_ + column / taps;
    const std::int64_t y = column % taps / layer_.kernel.width * layer_.dilation.height;
    const std::int64_t x = column % taps % layer_.kernel.width * layer_.dilation.width;
    // Below 2^31, since the layout refuses larger values.
    return static_cast<std::int32_t>(channel * input.channel + y * input.row + x * width);
}

StripKernel Product::kernel(const WideKernels& kernels, std::int64_t pixels) const {
    if (pooled_) {
        const bool average = layer_.epilogue.pooling->kind == PoolingKind::average;
        const auto& table = matrix_->blocks() ? kernels.blocks_pooled : kernels.scattered_pooled;
        return table[average ? 1 : 0][pixels];
    }
    const std::int64_t stride = layer_.sums.image ? layer_.stride.width : 1;
    const auto& table = matrix_->blocks() ? kernels.blocks : kernels.scattered;
    return table[stride == 1 ? 0 : stride == 2 ? 1 : 2][pixels];
}

void Product::run(const Context& context, const Batch& batch, std::int64_t group) const {
    const WideLayout& layout = context.layout;
    const std::int64_t width = context.kernels.width;
    const View input = context.view(layer_.inputs[0], batch, group);
    const bool pools_later = layer_.epilogue.pooling && !pooled_;
    const View output = pools_later ? context.view(layout.sums(number_), batch, group)
                                    : context.view(number_ + 1, batch, group);
    View residual{};
    const bool has_residual = layer_.epilogue.residual >= 0;
    if (has_residual) residual = context.view(layer_.epilogue.residual, batch, group);

    Strip strip{};
    strip.input_row = layer_.stride.height * input.row;
    strip.input_pixel = layer_.stride.width * width;
    strip.output_channel = output.channel;
    strip.residual_channel = residual.channel;
    strip.residual_row = residual.row;
    const bool by_position = layer_.bias_by_position;
    strip.bias_channel = by_position ? layer_.sums.height * layer_.sums.width : 1;
    strip.bias_row = by_position ? layer_.sums.width : 0;
    strip.bias_pixel = by_position ? 1 : 0;
    strip.partial = batch.scratch + partial_;
    strip.finish = finish_of(layer_.epilogue);

    const std::int64_t unit = pooled_ ? 2 : 1;
    const float* corner = input.data - layer_.padding.height * input.row -
                          layer_.padding.width * width;
    const std::int64_t most = strip_.pixels / unit;
    const std::int64_t strips = (output.pixels + most - 1) / most;
    for (std::int64_t row = 0; row < output.rows; ++row) {
        for (std::int64_t number = 0; number < strips; ++number) {
            const std::int64_t begin = output.pixels * number / strips;
            const std::int64_t end = output.pixels * (number + 1) / strips;
            strip.input = corner + row * unit * strip.input_row + begin * unit * strip.input_pixel;
            strip.output = output.data + row * output.row + begin * width;
            if (has_residual) {
                strip.residual = residual.data + row * unit * residual.row + begin * unit * width;
            }
            if (!layer_.bias.empty()) {
                strip.bias = layer_.bias.data() + row * unit * strip.bias_row +
                             begin * unit * strip.bias_pixel;
            }
            const StripKernel compute = kernel(context.kernels, (end - begin) * unit);
            for (const Panel& panel : matrix_->panels()) compute(strip, panel);
        }
    }
    if (pools_later) {
        context.kernels.pool(output, window_of(*layer_.epilogue.pooling),
                             context.view(number_ + 1, batch, group));
    }
    context.clear_halo(number_ + 1, batch, group);
}

// ---- the other layers

class PoolStep : public Step {
  public:
    PoolStep(const Layer& layer, int number)
        : input_(layer.inputs[0]), output_(number + 1),
          window_(window_of(*layer.epilogue.pooling)) {}

    void run(const Context& context, const Batch& batch, std::int64_t group) const override {
        context.kernels.pool(context.view(input_, batch, group), window_,
                             context.view(output_, batch, group));
        context.clear_halo(output_, batch, group);
    }

  private:
    int input_, output_;
    Window window_;
};

class PointwiseStep : public Step {
  public:
    PointwiseStep(const Layer& layer, int number)
        : input_(layer.inputs[0]), output_(number + 1), epilogue_(layer.epilogue) {}

    void run(const Context& context, const Batch& batch, std::int64_t group) const override {
        View residual{};
        if (epilogue_.residual >= 0) residual = context.view(epilogue_.residual, batch, group);
        context.kernels.pointwise(context.view(input_, batch, group), residual,
                                  finish_of(epilogue_), context.view(output_, batch, group));
        context.clear_halo(output_, batch, group);
    }

  private:
    int input_, output_;
    Epilogue epilogue_;
};

class SoftmaxStep : public Step {
  public:
    SoftmaxStep(const Layer& layer, int number)
        : input_(layer.inputs[0]), output_(number + 1), logarithm_(layer.logarithm) {}

    void run(const Context& context, const Batch& batch, std::int64_t group) const override {
        context.kernels.softmax(context.view(input_, batch, group), logarithm_,
                                context.view(output_, batch, group));
        context.clear_halo(output_, batch, group);
    }

  private:
    int input_, output_;
    bool logarithm_;
};

class ConcatenateStep : public Step {
  public:
    ConcatenateStep(const Layer& layer, int number) : inputs_(layer.inputs), output_(number + 1) {}

    void run(const Context& context, const Batch& batch, std::int64_t group) const override {
        View part = context.view(output_, batch, group);
        for (const int value : inputs_) {
            const View input = context.view(value, batch, group);
            part.channels = input.channels;
            context.kernels.copy(input, part);
            part.data += input.channels * part.channel;
        }
        context.clear_halo(output_, batch, group);
    }

  private:
    std::vector<int> inputs_;
    int output_;
};

// Always in a segment of images: among features a reshape is an alias.
class ReshapeStep : public Step {
  public:
    ReshapeStep(const Layer& layer, int number) : input_(layer.inputs[0]), output_(number + 1) {}

    void run(const Context& context, const Batch& batch, std::int64_t group) const override {
        const WideLayout& layout = context.layout;
        context.kernels.copy(layout.of_group(layout.place(input_), batch.scratch, group),
                             layout.of_group(layout.place(output_), batch.scratch, group));
        context.clear_halo(output_, batch, group);
    }

  private:
    int input_, output_;
};

std::unique_ptr<Step> make_step(const Context& context, const Layer& layer, int number) {
    switch (layer.kind) {
        case LayerKind::linear:
        case LayerKind::convolution:
            return std::make_unique<Product>(context, layer, number);
        case LayerKind::pool:
            return std::make_unique<PoolStep>(layer, number);
        case LayerKind::pointwise:
            return std::make_unique<PointwiseStep>(layer, number);
        case LayerKind::concatenate:
            return std::make_unique<ConcatenateStep>(layer, number);
        case LayerKind::softmax:
            return std::make_unique<SoftmaxStep>(layer, number);
        case LayerKind::reshape:
            break;
    }
    if (context.layout.is_alias(number)) return nullptr;
    return std::make_unique<ReshapeStep>(layer, number);
}

// ---- the whole

class WideExecutor : public Executor {
  public:
    WideExecutor(const Plan& plan, InstructionSet set)
        : context_{wide_kernels(set), WideLayout(plan, tile_for(wide_kernels(set))), caches()},
          output_(plan.output),
          input_size_(plan.input.size()),
          output_size_(plan.shapes[static_cast<std::size_t>(plan.output)].size()) {
        scratch_ = context_.layout.size();
        std::int64_t partial = 0;
        for (std::size_t number = 0; number < plan.layers.size(); ++number) {
            steps_.push_back(
                make_step(context_, plan.layers[number], static_cast<int>(number)));
            if (auto* product = dynamic_cast<Product*>(steps_.back().get())) {
                product->set_partial(scratch_);
                partial = std::max(partial, product->partial_size());
            }
        }
        scratch_ += partial;
    }

    std::int64_t lanes() const override { return context_.layout.tile().lanes(); }
    std::int64_t granule() const override { return context_.kernels.width; }
    std::size_t scratch_floats() const override { return static_cast<std::size_t>(scratch_); }

    void run(const float* inputs, float* outputs, std::int64_t count, float* scratch, Team&,
             double* layer_seconds) const noexcept override {
        const std::int64_t width = context_.kernels.width;
        const Batch batch{inputs, outputs, count, scratch, (count + width - 1) / width};
        for (const Segment& segment : context_.layout.segments()) {
            const std::int64_t rounds = segment.images ? batch.groups : 1;
            for (std::int64_t group = 0; group < rounds; ++group) {
                for (std::int64_t at = segment.begin; at < segment.end; ++at) {
                    do_position(at, segment.images, batch, group, layer_seconds);
                }
            }
        }
    }

  private:
    static Tile tile_for(const WideKernels& kernels) {
        // Features of 64 examples, or as many as a strip takes.
        return {kernels.width, std::min(strip_pixels, 64 / kernels.width)};
    }

    void do_position(std::int64_t position, bool images, const Batch& batch, std::int64_t group,
                     double* layer_seconds) const {
        if (position == 0) return take(images, batch, group);
        if (position == static_cast<std::int64_t>(steps_.size()) + 1) {
            return give(images, batch, group);
        }
        const auto number = static_cast<std::size_t>(position - 1);
        if (!steps_[number]) return;
        if (!layer_seconds) return steps_[number]->run(context_, batch, group);
        const auto begin = std::chrono::steady_clock::now();
        steps_[number]->run(context_, batch, group);
        const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
        layer_seconds[number] += took.count();
    }

    // The first example of a group of an image, and how many there are; of features, of all groups.
    std::int64_t first_of(std::int64_t group) const { return group * context_.kernels.width; }
    std::int64_t count_of(bool images, const Batch& batch, std::int64_t group) const {
        return images ? std::min<std::int64_t>(context_.kernels.width,
                                               batch.count - first_of(group))
                      : batch.count;
    }

    void take(bool images, const Batch& batch, std::int64_t group) const {
        const auto take = images ? context_.kernels.take_image : context_.kernels.take_features;
        take(batch.inputs + first_of(group) * input_size_, count_of(images, batch, group),
             context_.view(0, batch, group));
        context_.clear_halo(0, batch, group);
    }

    void give(bool images, const Batch& batch, std::int64_t group) const {
        const auto give = images ? context_.kernels.give_image : context_.kernels.give_features;
        give(context_.view(output_, batch, group),
             batch.outputs + first_of(group) * output_size_, count_of(images, batch, group));
    }

    Context context_;
    int output_;
    std::int64_t input_size_;
    std::int64_t output_size_;
    std::vector<std::unique_ptr<Step>> steps_;
    std::int64_t scratch_ = 0;
};

}  // namespace

std::unique_ptr<Executor> make_wide_executor(const Plan& plan, InstructionSet set) {
    return std::make_unique<WideExecutor>(plan, set);
}

}  // namespace gossamer
