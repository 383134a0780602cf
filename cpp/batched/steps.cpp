#include "batched/steps.hpp"

#include <vector>

#include "batched/product.hpp"

namespace gossamer::batched {

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

namespace {

class PoolStep : public LayerStep {
  public:
    PoolStep(const Layer& layer, int number)
        : LayerStep(number),
          input_(layer.inputs[0]),
          window_(window_of(*layer.epilogue.pooling)) {}

  private:
    void compute(const Context& context, const Batch& batch, std::int64_t group) const override {
        context.kernels.pool(context.view(input_, batch, group), window_,
                             context.view(output_, batch, group));
    }

    int input_;
    Window window_;
};

class PointwiseStep : public LayerStep {
  public:
    PointwiseStep(const Layer& layer, int number)
        : LayerStep(number), input_(layer.inputs[0]), epilogue_(layer.epilogue) {}

  private:
    void compute(const Context& context, const Batch& batch, std::int64_t group) const override {
        View residual{};
        if (epilogue_.residual >= 0) residual = context.view(epilogue_.residual, batch, group);
        context.kernels.pointwise(context.view(input_, batch, group), residual,
                                  finish_of(epilogue_), context.view(output_, batch, group));
    }

    int input_;
    Epilogue epilogue_;
};

class SoftmaxStep : public LayerStep {
  public:
    SoftmaxStep(const Layer& layer, int number)
        : LayerStep(number), input_(layer.inputs[0]), logarithm_(layer.logarithm) {}

  private:
    void compute(const Context& context, const Batch& batch, std::int64_t group) const override {
        context.kernels.softmax(context.view(input_, batch, group), logarithm_,
                                context.view(output_, batch, group));
    }

    int input_;
    bool logarithm_;
};

class ConcatenateStep : public LayerStep {
  public:
    ConcatenateStep(const Layer& layer, int number)
        : LayerStep(number), inputs_(layer.inputs) {}

  private:
    void compute(const Context& context, const Batch& batch, std::int64_t group) const override {
        View part = context.view(output_, batch, group);
        for (const int value : inputs_) {
            const View input = context.view(value, batch, group);
            part.channels = input.channels;
            context.kernels.copy(input, part);
            part.data += input.channels * part.channel;
        }
    }

    std::vector<int> inputs_;
};

// Always in a segment of images: among features a reshape is an alias.
class ReshapeStep : public LayerStep {
  public:
    ReshapeStep(const Layer& layer, int number)
        : LayerStep(number), input_(layer.inputs[0]) {}

  private:
    void compute(const Context& context, const Batch& batch, std::int64_t group) const override {
        const BatchedLayout& layout = context.layout;
        context.kernels.copy(layout.of_group(layout.place(input_), batch.scratch, group),
                             layout.of_group(layout.place(output_), batch.scratch, group));
    }

    int input_;
};

}  // namespace

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

}  // namespace gossamer::batched
