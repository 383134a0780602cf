#include "batched/product.hpp"

#include <algorithm>
#include <utility>

#include "batched/quads.hpp"

namespace gossamer::batched {

namespace {

StripSite site_of(const Context& context, const Product& layer) {
    const Place& input = context.layout.place(layer.reads[0]);
    return {context.set,     context.caches,
            context.width(), input.channel,
            input.row,       layer.slides() ? layer.sums.width : context.layout.tile().groups,
            /*pools=*/true};
}

}  // namespace

ProductStep::ProductStep(const Context& context, const Product& layer, int number)
    : layer_(layer),
      reads_(layer.reads),
      number_(number),
      pooled_(pools_in_registers(layer)),
      strips_(site_of(context, layer), layer, layer.weights),
      pool_(pool_loops(context.set).batched) {}

void move_rows(const View& view, Range rows, std::int64_t to, std::int64_t column) {
    for (std::int64_t channel = 0; channel < view.channels; ++channel) {
        // Where row 0 would lie.
        float* const zero = view.data + channel * view.channel + column * view.pixel;
        std::copy(zero + rows.begin * view.row, zero + rows.end * view.row, zero + to * view.row);
    }
}

void ProductStep::run(const Context& context, const Batch& batch, std::int64_t group) const {
    timed(batch, number_, [&] {
        if (layer_.epilogue.pooling && !pooled_) return run_and_pool(context, batch, group);
        const View output = context.view(number_ + 1, batch, group);
        run_part(context, batch, group, context.view(reads_[0], batch, group), output,
                 {0, output.rows}, {0, output.pixels});
    });
}

// In tiles of columns, as many rows at a time as are kept of the sums. Of these, the ones that are
// read again are moved to the front.
void ProductStep::run_and_pool(const Context& context, const Batch& batch,
                               std::int64_t group) const {
    const Pooling& pooling = *layer_.epilogue.pooling;
    const Place& place = context.layout.sums(number_);
    const View input = context.view(reads_[0], batch, group);
    const View output = context.view(number_ + 1, batch, group);
    const std::int64_t height = layer_.sums.height;
    for (std::int64_t tile = 0; tile < place.tiles; ++tile) {
        const Range wanted = tile_of(output.pixels, place.tiles, tile);
        const Range columns = within(columns_pooled(pooling, wanted), layer_.sums.width);
        const auto kept = [&](std::int64_t first) {
            return context.layout.of_part(place, batch.scratch, group, first,
                                          place.slides ? columns.begin : 0);
        };
        Range made{0, 0};
        for (std::int64_t row = 0; row < output.rows;) {
            const std::int64_t first = within(rows_pooled(pooling, {row, row + 1}), height).begin;
            std::int64_t end = row + 1;
            const auto rows_of = [&](std::int64_t last) {
                return std::max(made.end, within(rows_pooled(pooling, {row, last}), height).end);
            };
            while (end < output.rows && rows_of(end + 1) - first <= place.rows) ++end;
            made.end = std::max(made.end, first);  // rows that nobody reads are left out
            if (first > made.begin) {
                move_rows(kept(made.begin), {first, made.end}, made.begin, columns.begin);
                made.begin = first;
            }
            const View sums = kept(made.begin);
            run_part(context, batch, group, input, sums, {made.end, rows_of(end)}, columns);
            made.end = rows_of(end);
            pool_(pooling, sums, output, {row, end}, wanted);
            row = end;
        }
    }
}

void ProductStep::run_part(const Context& context, const Batch& batch, std::int64_t group,
                           const View& input, const View& output, Range rows, Range columns) const {
    View residual{};
    if (layer_.epilogue.residual >= 0) residual = context.view(reads_[1], batch, group);
    strips_.run({input, output, residual, batch.partial}, rows, columns, {0, strips_.shares()});
}

}  // namespace gossamer::batched

namespace gossamer {

std::unique_ptr<batched::Step> Product::make_batched(const batched::Context& context,
                                                     int number) const {
    std::unique_ptr<batched::Step> step = batched::quad_step(context, *this, number);
    return step ? std::move(step) : std::make_unique<batched::ProductStep>(context, *this, number);
}

}  // namespace gossamer
