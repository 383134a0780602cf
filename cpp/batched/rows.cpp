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
    const TileColumns& columns;  // of each layer
    Progress* progress;

    const Place& output(const ProductStep& product) const {
        return context.layout.place(product.number() + 1);
    }
    View kept(const ProductStep& product, std::size_t layer) const {
        return context.layout.of_part(output(product), batch.scratch, group, progress[layer].first,
                                      columns[layer].begin);
    }
};

namespace {

void clear(const View& view, Range rows, Range columns) {
    const std::int64_t width = view.pixel;
    if (columns.end <= columns.begin) return;
    for (std::int64_t channel = 0; channel < view.channels; ++channel) {
        for (std::int64_t row = rows.begin; row < rows.end; ++row) {
            float* const zero = view.data + channel * view.channel + row * view.row;
            std::fill(zero + columns.begin * width, zero + columns.end * width, 0.0f);
        }
    }
}

}  // namespace

RowByRow::RowByRow(const Context& context, const Plan& plan, const Stage& stage) {
    std::vector<const ProductForm*> forms;
    for (std::int64_t position = stage.begin; position < stage.end; ++position) {
        const auto number = static_cast<int>(position - 1);
        const Product& layer = *plan.layers[static_cast<std::size_t>(number)]->product();
        products_.push_back(std::make_unique<ProductStep>(context, layer, number));
        forms.push_back(&layer);
    }
    for (std::int64_t tile = 0; tile < stage.tiles; ++tile)
        tiles_.push_back(tile_columns(forms, stage.tiles, tile));
}

std::int64_t RowByRow::partial_floats() const {
    std::int64_t most = 0;
    for (const auto& product : products_) most = std::max(most, product->partial_floats());
    return most;
}

void RowByRow::run(const Context& context, const Batch& batch, std::int64_t group) const {
    const std::size_t last = products_.size() - 1;
    for (const TileColumns& columns : tiles_) {
        Progress progress[longest_stage];
        const Site site{context, batch, group, columns, progress};
        for (std::size_t layer = 0; layer < last; ++layer) {
            const std::int64_t above = -site.output(*products_[layer]).halo[0];
            progress[layer] = {0, above};
            clear(site.kept(*products_[layer], layer), {above, 0}, columns[layer]);
        }
        progress[last] = {0, 0};
        advance(site, last, site.output(*products_[last]).shape.height);
    }
}

// Compute a layer up to a row.
void RowByRow::advance(const Site& site, std::size_t layer, std::int64_t rows) const {
    const ProductStep& product = *products_[layer];
    Progress& made = site.progress[layer];
    const Range taken = site.columns[layer];
    const Range columns = within(taken, site.output(product).shape.width);
    while (made.done < rows) {
        // Nothing that the first one reads has to be computed in between.
        const std::int64_t end = layer > 0 ? made.done + 1 : rows;
        if (layer > 0) provide(site, layer - 1, product.rows_read({made.done, made.done + 1}));
        const View input = layer > 0 ? site.kept(*products_[layer - 1], layer - 1)
                                     : site.context.view(product.input(), site.batch, site.group);
        const bool last = layer + 1 == products_.size();
        const View output = last ? site.context.view(product.number() + 1, site.batch, site.group)
                                 : site.kept(product, layer);
        const Range now{made.done, end};
        timed(site.batch, product.number(), [&] {
            product.run_part(site.context, site.batch, site.group, input, output, now, columns);
        });
        if (!last) {
            clear(output, now, {taken.begin, std::min(columns.begin, taken.end)});
            clear(output, now, {std::max(columns.end, taken.begin), taken.end});
        }
        made.done = end;
    }
}

// Have all of these rows of the output of a layer; those before them may go. They are no more than
// are kept, since `BatchedLayout::slide` keeps as many as its one reader reads.
void RowByRow::provide(const Site& site, std::size_t layer, Range rows) const {
    const ProductStep& product = *products_[layer];
    const Place& place = site.output(product);
    const std::int64_t height = place.shape.height;
    Progress& made = site.progress[layer];
    made.done = std::max(made.done, rows.begin);  // rows that nobody reads are left out
    if (rows.end - made.first > place.rows) {
        timed(site.batch, product.number(), [&] {
            move_rows(site.kept(product, layer), {rows.begin, made.done}, made.first,
                      site.columns[layer].begin);
        });
        made.first = rows.begin;
    }
    advance(site, layer, std::min(rows.end, height));
    if (rows.end > std::max(made.done, height)) {
        clear(site.kept(product, layer), {std::max(made.done, height), rows.end},
              site.columns[layer]);
        made.done = rows.end;
    }
}

}  // namespace gossamer::batched
