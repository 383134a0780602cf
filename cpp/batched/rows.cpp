#include "batched/rows.hpp"

#include <algorithm>

namespace gossamer::batched {

// How far the output of a layer has come: these rows are kept. Zeros above it and below it count as
// rows, too.
struct RowByRow::Progress {
    std::int64_t done;
    std::int64_t first;
};

struct RowByRow::Site {
    const Context& context;
    const Batch& batch;
    std::int64_t group;
    Progress* progress;  // of each layer

    const Place& output(const ProductStep& product) const {
        return context.layout.place(product.number() + 1);
    }
    View kept(const ProductStep& product, const Progress& made) const {
        return context.layout.of_rows(output(product), batch.scratch, group, made.first);
    }
};

namespace {

void clear_rows(const View& view, Range rows, std::int64_t width) {
    for (std::int64_t channel = 0; channel < view.channels; ++channel) {
        for (std::int64_t row = rows.begin; row < rows.end; ++row) {
            std::fill_n(view.data + channel * view.channel + row * view.row, view.pixels * width,
                        0.0f);
        }
    }
}

// Move rows to the place of others before them, with their halo.
void move_rows(const View& view, Range rows, std::int64_t to, std::int64_t halo) {
    for (std::int64_t channel = 0; channel < view.channels; ++channel) {
        float* const zero = view.data + channel * view.channel - halo;  // where row 0 would lie
        std::copy(zero + rows.begin * view.row, zero + rows.end * view.row, zero + to * view.row);
    }
}

}  // namespace

RowByRow::RowByRow(const Context& context, const Plan& plan, const Stage& stage) {
    for (std::int64_t position = stage.begin; position < stage.end; ++position) {
        const auto number = static_cast<int>(position - 1);
        const Product& layer = *plan.layers[static_cast<std::size_t>(number)]->product();
        products_.push_back(std::make_unique<ProductStep>(context, layer, number));
    }
}

std::int64_t RowByRow::partial_floats() const {
    std::int64_t most = 0;
    for (const auto& product : products_) most = std::max(most, product->partial_floats());
    return most;
}

void RowByRow::run(const Context& context, const Batch& batch, std::int64_t group) const {
    Progress progress[longest_stage];
    const Site site{context, batch, group, progress};
    const std::size_t last = products_.size() - 1;
    for (std::size_t layer = 0; layer < last; ++layer) {
        const std::int64_t above = -site.output(*products_[layer]).halo[0];
        progress[layer] = {0, above};
        clear_rows(site.kept(*products_[layer], progress[layer]), {above, 0}, context.width());
    }
    progress[last] = {0, 0};
    advance(site, last, site.output(*products_[last]).shape.height);
}

// Compute a layer up to a row.
void RowByRow::advance(const Site& site, std::size_t layer, std::int64_t rows) const {
    const ProductStep& product = *products_[layer];
    Progress& made = site.progress[layer];
    while (made.done < rows) {
        // Nothing that the first one reads has to be computed in between.
        const std::int64_t end = layer > 0 ? made.done + 1 : rows;
        if (layer > 0) provide(site, layer - 1, product.rows_read(made.done));
        const View input = layer > 0 ? site.kept(*products_[layer - 1], site.progress[layer - 1])
                                     : site.context.view(product.input(), site.batch, site.group);
        const View output = layer + 1 < products_.size()
                                ? site.kept(product, made)
                                : site.context.view(product.number() + 1, site.batch, site.group);
        timed(site.batch, product.number(), [&] {
            product.run_rows(site.context, site.batch, site.group, input, output, {made.done, end});
        });
        made.done = end;
    }
}

// Have all of these rows of the output of a layer; those before them may go. They are no more than
// are kept, since `BatchedLayout::slide` keeps as many as its one reader reads.
void RowByRow::provide(const Site& site, std::size_t layer, Range rows) const {
    const ProductStep& product = *products_[layer];
    const Place& place = site.output(product);
    const std::int64_t width = site.context.width(), height = place.shape.height;
    Progress& made = site.progress[layer];
    made.done = std::max(made.done, rows.begin);  // rows that nobody reads are left out
    if (rows.end - made.first > place.rows) {
        timed(site.batch, product.number(), [&] {
            move_rows(site.kept(product, made), {rows.begin, made.done}, made.first,
                      place.halo[1] * width);
        });
        made.first = rows.begin;
    }
    advance(site, layer, std::min(rows.end, height));
    if (rows.end > std::max(made.done, height)) {
        clear_rows(site.kept(product, made), {std::max(made.done, height), rows.end}, width);
        made.done = rows.end;
    }
}

}  // namespace gossamer::batched
