#include "single/grid_step.hpp"

#include <algorithm>
#include <optional>
#include <vector>

#include "batched/product.hpp"
#include "ops/loops.hpp"
#include "ops/product.hpp"
#include "single/quad_strips.hpp"
#include "single/staging.hpp"
#include "single/steps.hpp"

namespace gossamer::single {
namespace {

// Of how many channels a share of the weights is at least.
constexpr std::int64_t least_share = 16;
constexpr std::int64_t most_shares = 4;

// Of so many vectors on, long strips read single pixels faster than other steps.
constexpr std::int64_t least_vectors = 32;

std::int64_t extent(const Window& window) {
    return (window.kernel.height - 1) * window.dilation.height + 1;
}

// The rows that windows read, from those in the padding on.
Range rows_of(const Window& window, Range rows) {
    const std::int64_t stride = window.stride.height, padding = window.padding.height;
    return {rows.begin * stride - padding, (rows.end - 1) * stride - padding + extent(window)};
}

std::int64_t length(Range range) { return range.end - range.begin; }

class GridStep final : public Step {
  public:
    GridStep(const Site& site, const Product& layer);
    void run(const Worker& worker) const noexcept override;
    double nanoseconds() const override {
        return 0.03 * static_cast<double>(stored_ * form_.sums.height * form_.sums.width);
    }
    std::int64_t room() const override { return room_; }

  private:
    // Rows and columns of vectors, of each channel.
    struct Area {
        std::int64_t rows, columns;
        std::int64_t plane(std::int64_t lanes) const { return (rows * columns | 1) * lanes; }
    };

    bool pools() const { return form_.epilogue.pooling && !averages_; }
    std::int64_t band() const;
    void find_edges();
    void take_room();
    View view(float* data, std::int64_t plane, const Area& area) const {
        return {data,         plane, area.columns * lanes_, lanes_, form_.sums.channels, area.rows,
                area.columns, plane};
    }
    void stage(const Worker& worker, Range sums) const;
    void stage_residual(const Worker& worker) const;
    void pool(float* sums, Range made, Range there, const View& output, Range rows,
              Range channels) const;
    void give(const Worker& worker) const;

    const GridLoops& loops_;
    decltype(PoolLoops::batched) pool_;
    std::int64_t lanes_;
    Layout input_, output_, residual_;
    bool averages_;  // of the whole image
    Window pooled_;  // of one pixel where nothing is pooled
    std::int64_t stored_;
    Grid grid_;      // of the output,
    Border beyond_;  //   and what is read of the sums around their tiles
    Pair step_;      // where nothing is read of the pixels between
    ProductForm form_;
    Grid source_;        // of the input, as windows read it
    Border border_;      //   around its tiles
    bool direct_;        // windows read the value itself
    std::int64_t band_;  // rows of the output at a time
    Area sums_, staged_;
    std::vector<Move> inside_;               // vectors that are averaged
    std::vector<Move> edges_;                // of sums, where lanes are not of the image
    std::vector<std::int64_t> edge_starts_;  // of each row
    std::int64_t shared_;
    std::int64_t room_ = 0;
    std::int64_t plane_;  // of the output
    Staging staging_;
    std::optional<Staging> residual_staging_;
    std::int64_t whole_floats_;  // of a worker
    std::int64_t staged_place_, image_place_, whole_place_, sums_place_, given_place_,
        residual_place_, residual_image_place_, partial_place_;
    // Either.
    std::optional<batched::StripProduct> strips_;
    std::optional<QuadStrips> quads_;
};

Grid output_grid(const Product& layer, const Layout& output, std::int64_t lanes) {
    if (output.grid.there()) return output.grid;
    const bool averages = averages_image(layer);
    const std::int64_t height = averages ? layer.sums.height : output.height;
    const std::int64_t width = averages ? layer.sums.width : output.width;
    return grid_of(height, width, lanes);
}

Window pooled_window(const Product& layer) {
    const bool pools = layer.epilogue.pooling && !averages_image(layer);
    return pools ? layer.epilogue.pooling->window : Window{};
}

// The step of a layer that reads single pixels, from a value that does not lie as they do.
Pair step_of(const Product& layer, const Layout& input, const Grid& sums) {
    const auto& [kernel, stride, padding, dilation] = layer.window;
    const bool single = layer.taps() == 1 && padding.height == 0 && padding.width == 0;
    return single && !(input.grid == sums.scaled(stride)) ? stride : Pair{};
}

ProductForm stepped(const Product& layer, const Pair& step) {
    ProductForm form = layer;
    form.window.stride.height /= step.height;
    form.window.stride.width /= step.width;
    return form;
}

GridStep::GridStep(const Site& site, const Product& layer)
    : loops_(grid_loops(site.set)),
      pool_(pool_loops(site.set).batched),
      lanes_(loops_.lanes),
      input_(site.read(0)),
      output_(site.output()),
      residual_(layer.epilogue.residual < 0 ? Layout{} : site.read(1)),
      averages_(averages_image(layer)),
      pooled_(pooled_window(layer)),
      stored_(static_cast<std::int64_t>(layer.weights.values.size())),
      grid_(output_grid(layer, output_, lanes_)),
      beyond_(border_of(pooled_, {})),
      step_(step_of(layer, input_, grid_.scaled(pooled_.stride))),
      form_(stepped(layer, step_)),
      source_(grid_.scaled(pooled_.stride).scaled(form_.window.stride)),
      border_(border_of(form_.window, beyond_)),
      direct_(border_.none() && input_.grid == source_ && step_.height == 1 && step_.width == 1),
      band_(band()),
      sums_{length(rows_of(pooled_, {0, band_})),
            grid_.width * pooled_.stride.width + beyond_.left + beyond_.right},
      staged_{length(rows_of(form_.window, {0, sums_.rows})),
              source_.width + border_.left + border_.right},
      shared_(site.shared),
      plane_(output_.grid.there() ? output_.plane : (grid_.vectors() | 1) * lanes_),
      staging_(site.set, input_, source_, border_, step_) {
    const batched::StripSite strips{
        site.set,
        caches(),
        lanes_,
        direct_ ? input_.plane : staged_.plane(lanes_),
        (direct_ ? source_.width : staged_.columns) * lanes_,
        sums_.columns,
        /*pools=*/false,
        std::clamp<std::int64_t>(layer.weights.rows / least_share, 1, most_shares)};
    if (!pools() && QuadStrips::takes(strips, form_, layer.weights, grid_.vectors()))
        quads_.emplace(strips, form_, layer.weights);
    else
        strips_.emplace(strips, form_, layer.weights);
    if (pools()) find_edges();
    if (averages_) inside_ = moves_of(grid_, {}, {form_.sums.height, form_.sums.width});
    const bool adds = form_.epilogue.residual >= 0 && !residual_.grid.there();
    if (adds) residual_staging_.emplace(site.set, residual_, grid_, Border{}, Pair{});
    take_room();
}

void GridStep::find_edges() {
    const std::vector<Move> all =
        moves_of(grid_.scaled(pooled_.stride), beyond_, {form_.sums.height, form_.sums.width});
    for (std::size_t at = 0; at < all.size(); ++at) {
        const auto number = static_cast<std::int64_t>(at);
        if (number % sums_.columns == 0)
            edge_starts_.push_back(static_cast<std::int64_t>(edges_.size()));
        if (all[at].lanes == (1 << lanes_) - 1) continue;
        edges_.push_back(all[at]);
        edges_.back().from = static_cast<std::int32_t>(number * lanes_);
    }
    edge_starts_.push_back(static_cast<std::int64_t>(edges_.size()));
}

void GridStep::take_room() {
    const auto take = [&](bool wanted, std::int64_t floats) {
        const std::int64_t place = shared_ + room_;
        if (wanted) room_ += rounded_up(floats + slack, 16);
        return place;
    };
    const std::int64_t given =
        grid_.down * grid_.height * (grid_.across * grid_.width + behind_row);
    const std::int64_t channels = form_.sums.channels;
    const bool adds = residual_staging_.has_value();
    whole_floats_ = rounded_up(std::max(staging_.whole_floats(), given + slack), 16);
    staged_place_ = take(!direct_, input_.channels * staged_.plane(lanes_));
    image_place_ = take(!direct_, input_.channels * staging_.image_floats());
    whole_place_ = take(true, std::max(input_.channels, channels) * whole_floats_);
    sums_place_ = take(pools(), channels * sums_.plane(lanes_));
    given_place_ = take(!output_.grid.there(), channels * plane_);
    residual_place_ = take(adds, channels * plane_);
    residual_image_place_ = take(adds, adds ? channels * residual_staging_->image_floats() : 0);
    partial_place_ = take(true, strips_ ? strips_->partial_floats() : 0);
}

// So many rows that what they read, and sums that are pooled, stay in the second cache.
std::int64_t GridStep::band() const {
    const std::int64_t most = caches().second / 4;
    const std::int64_t read =
        4 * lanes_ * input_.channels * (source_.width + border_.left + border_.right);
    const std::int64_t made = 4 * lanes_ * form_.sums.channels *
                              (grid_.width * pooled_.stride.width + beyond_.left + beyond_.right);
    const auto fits = [&](std::int64_t rows) {
        const Range sums = rows_of(pooled_, {0, rows});
        return (direct_ || length(rows_of(form_.window, sums)) * read <= most) &&
               (!pools() || length(sums) * made <= 2 * most);
    };
    std::int64_t rows = grid_.height;
    while (rows > 1 && !fits(rows)) --rows;
    return divided_up(grid_.height, divided_up(grid_.height, rows));
}

// What windows of some rows of the sums read, of all channels.
void GridStep::stage(const Worker& worker, Range sums) const {
    float* const scratch = worker.scratch;
    const Range channels = worker.part(input_.channels);
    Range rows = rows_of(form_.window, sums);
    rows = {rows.begin + border_.above, rows.end + border_.above};
    float* const whole = scratch + whole_place_ + channels.begin * whole_floats_;
    for (std::int64_t channel = channels.begin; channel < channels.end; ++channel) {
        const float* const from = scratch + input_.place + channel * input_.plane + input_.origin;
        staging_.run(from, scratch + image_place_ + channel * staging_.image_floats(), whole, rows,
                     scratch + staged_place_ + channel * staged_.plane(lanes_));
    }
}

void GridStep::stage_residual(const Worker& worker) const {
    const Staging& staging = *residual_staging_;
    float* const scratch = worker.scratch;
    const Range channels = worker.part(form_.sums.channels);
    float* const image = scratch + residual_image_place_ + channels.begin * staging.image_floats();
    for (std::int64_t channel = channels.begin; channel < channels.end; ++channel) {
        const float* const from =
            scratch + residual_.place + channel * residual_.plane + residual_.origin;
        staging.run(from, image, nullptr, {0, grid_.height},
                    scratch + residual_place_ + channel * plane_);
    }
}

// `there` are the rows of the sums that are kept, the last of which have just been made.
void GridStep::pool(float* sums, Range made, Range there, const View& output, Range rows,
                    Range channels) const {
    const std::int64_t row = sums_.columns * lanes_, plane = sums_.plane(lanes_);
    // Where the first row of the border would lie.
    float* const first = sums - (there.begin + beyond_.above) * row + channels.begin * plane;
    const Range edges{edge_starts_[made.begin + beyond_.above],
                      edge_starts_[made.end + beyond_.above]};
    for (std::int64_t channel = 0; channel < length(channels); ++channel)
        loops_.bound(edges_.data() + edges.begin, length(edges), first + channel * plane);
    Pooling pooling = *form_.epilogue.pooling;
    pooling.window.padding = {0, 0};
    View from = view(first, plane,
                     {static_cast<std::int64_t>(edge_starts_.size()) - 1, sums_.columns}),
         to = output;
    from.channels = to.channels = length(channels);
    to.data += channels.begin * to.channel;
    pool_(pooling, from, to, rows, {0, grid_.width});
}

void GridStep::give(const Worker& worker) const {
    float* const scratch = worker.scratch;
    const Range channels = worker.part(form_.sums.channels);
    const std::int64_t pitch = grid_.across * grid_.width + behind_row;
    float* const image = scratch + whole_place_ + channels.begin * whole_floats_;
    for (std::int64_t channel = channels.begin; channel < channels.end; ++channel) {
        float* const to = scratch + output_.place + output_.origin + channel * output_.plane;
        const float* const from = scratch + given_place_ + channel * plane_;
        if (output_.padded()) clear_around(output_, scratch, channel);
        if (averages_) {
            *to = loops_.sum(inside_.data(), grid_.vectors(), from) /
                  static_cast<float>(form_.sums.height * form_.sums.width);
            continue;
        }
        loops_.collect(from, grid_, image, pitch);
        copy_plane(image, pitch, to, output_.pitch, output_.height, output_.width);
    }
}

void GridStep::run(const Worker& worker) const noexcept {
    float* const scratch = worker.scratch;
    const bool pools = this->pools();
    const Area all{grid_.height, grid_.width};
    const View output =
        view(scratch + (output_.grid.there() ? output_.place : given_place_), plane_, all);
    float* const sums = scratch + sums_place_;
    float* const staged = scratch + (direct_ ? input_.place : staged_place_);
    batched::StripProduct::Views views{};
    views.input = direct_ ? view(staged, input_.plane, {source_.height, source_.width})
                          : view(staged, staged_.plane(lanes_), staged_);
    views.output = pools ? view(sums, sums_.plane(lanes_), sums_) : output;
    if (form_.epilogue.residual >= 0) {
        const bool there = residual_.grid.there();
        if (!there) stage_residual(worker);
        views.residual = view(scratch + (there ? residual_.place : residual_place_),
                              there ? residual_.plane : plane_, all);
    }
    const Range shares = strips_ ? worker.part(strips_->shares()) : Range{0, 0};
    const Range bunches = quads_ ? worker.part_by_cost(quads_->costs()) : Range{0, 0};
    views.partial = scratch + partial_place_;
    const Range columns{-beyond_.left, sums_.columns - beyond_.left};
    Range there{0, -beyond_.above};  // rows of the sums
    for (std::int64_t begin = 0; begin < grid_.height; begin += band_) {
        const Range rows{begin, std::min(begin + band_, grid_.height)};
        const Range needed = rows_of(pooled_, rows);
        const Range made{std::max(needed.begin, there.end), needed.end};
        if (!direct_) {
            if (begin > 0) worker.wait_for_all();
            stage(worker, made);
            // Row 0 lies where its windows would find it.
            views.input.data =
                staged + border_.left * lanes_ +
                (form_.window.padding.height - made.begin * form_.window.stride.height) *
                    views.input.row;
        }
        worker.wait_for_all();
        if (quads_) {
            quads_->run(views, made, bunches);
            continue;
        }
        const Range channels = strips_->channels(shares);
        if (pools) {
            // Rows that are read again come first.
            View kept = views.output;
            kept.data = sums - there.begin * kept.row + channels.begin * kept.channel;
            kept.channels = length(channels);
            if (needed.begin < there.end)
                batched::move_rows(kept, {needed.begin, there.end}, there.begin, 0);
            views.output.data = sums + beyond_.left * lanes_ - needed.begin * kept.row;
        }
        strips_->run(views, made, columns, shares);
        if (pools) pool(sums, made, needed, output, rows, channels);
        there = needed;
    }
    if (output_.grid.there()) return;
    worker.wait_for_all();
    give(worker);
}

}  // namespace

std::unique_ptr<Step> grid_step(const Site& site, const Product& layer) {
    const bool reads = site.read(0).grid.there(), gives = site.output().grid.there();
    const bool adds = layer.epilogue.residual >= 0 && site.read(1).grid.there();
    if (!reads && !gives && !adds) return nullptr;
    const auto& [kernel, stride, padding, dilation] = layer.window;
    const bool each_pixel = layer.taps() == 1 && stride.height == 1 && stride.width == 1 &&
                            padding.height == 0 && padding.width == 0;
    const bool adds_none = layer.epilogue.residual < 0 || adds;
    const bool few = site.output().grid.vectors() < least_vectors;
    if (each_pixel && few && reads && gives && adds_none && !layer.epilogue.pooling) return nullptr;
    return std::make_unique<GridStep>(site, layer);
}

}  // namespace gossamer::single
