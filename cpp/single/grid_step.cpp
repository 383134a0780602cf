#include "single/grid_step.hpp"

#include <algorithm>
#include <vector>

#include "batched/product.hpp"
#include "ops/loops.hpp"
#include "ops/product.hpp"
#include "single/grid.hpp"
#include "single/layout.hpp"
#include "single/steps.hpp"

namespace gossamer::single {
namespace {

// Of how many channels a share of the weights is at least.
constexpr std::int64_t least_share = 16;
constexpr std::int64_t most_shares = 4;

constexpr std::int64_t most_lanes = 16;

// How far windows reach beyond the tiles that they belong to.
struct Border {
    std::int64_t above = 0, below = 0, left = 0, right = 0;

    bool none() const { return above + below + left + right == 0; }
};

// What is read of an image for its windows, of which some lie beyond the tiles themselves.
Border border_of(const Window& window, const Border& beyond) {
    const auto& [kernel, stride, padding, dilation] = window;
    const auto behind = [](std::int64_t size, std::int64_t step, std::int64_t pad,
                           std::int64_t apart, std::int64_t more) {
        return std::max<std::int64_t>((size - 1) * apart - pad + (more - 1) * step + 1, 0);
    };
    return {padding.height + beyond.above * stride.height,
            behind(kernel.height, stride.height, padding.height, dilation.height, beyond.below),
            padding.width + beyond.left * stride.width,
            behind(kernel.width, stride.width, padding.width, dilation.width, beyond.right)};
}

std::int64_t extent(const Window& window) {
    return (window.kernel.height - 1) * window.dilation.height + 1;
}

// The rows that windows read, from those in the padding on.
Range rows_of(const Window& window, Range rows) {
    const std::int64_t stride = window.stride.height, padding = window.padding.height;
    return {rows.begin * stride - padding, (rows.end - 1) * stride - padding + extent(window)};
}

std::int64_t length(Range range) { return range.end - range.begin; }

// Tiles of an image, with what surrounds them, from tiles without.
std::vector<Move> moves_of(const Grid& grid, const Border& border, const Pair& image) {
    std::vector<Move> moves;
    const std::int64_t lanes = grid.down * grid.across;
    for (std::int64_t y = -border.above; y < grid.height + border.below; ++y) {
        for (std::int64_t x = -border.left; x < grid.width + border.right; ++x) {
            const std::int64_t down = y < 0 ? -1 : y >= grid.height ? 1 : 0;
            const std::int64_t across = x < 0 ? -1 : x >= grid.width ? 1 : 0;
            const std::int64_t from =
                (y - down * grid.height) * grid.width + x - across * grid.width;
            Move move{static_cast<std::int32_t>(from * lanes),
                      static_cast<std::int16_t>(down * grid.across + across), 0};
            for (std::int64_t lane = 0; lane < lanes; ++lane) {
                const std::int64_t row = lane / grid.across * grid.height + y;
                const std::int64_t column = lane % grid.across * grid.width + x;
                if (row >= 0 && row < image.height && column >= 0 && column < image.width)
                    move.lanes |= static_cast<std::uint16_t>(1 << lane);
            }
            moves.push_back(move);
        }
    }
    return moves;
}

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

    std::int64_t take(bool wanted, std::int64_t floats);
    std::int64_t band() const;
    View view(float* data, std::int64_t plane, const Area& area) const {
        return {data,         plane, area.columns * lanes_, lanes_, form_.sums.channels, area.rows,
                area.columns, plane};
    }
    void spread(const float* image, std::int64_t pitch, const Pair& size, const Grid& grid,
                const Border& border, Range rows, float* lines, float* to) const;
    void collect(const float* from, const Grid& grid, const Pair& size, float* lines, float* image,
                 std::int64_t pitch) const;
    void stage(const Worker& worker, Range sums) const;
    void stage_residual(const Worker& worker) const;
    void pool(float* sums, Range made, Range there, const View& output, Range rows,
              Range channels) const;
    void give(const Worker& worker) const;

    const GridLoops& loops_;
    decltype(PoolLoops::batched) pool_;
    std::int64_t lanes_;
    Layout input_, output_, residual_;
    ProductForm form_;
    Window pooled_{};  // of one pixel where nothing is pooled
    std::int64_t stored_;
    Grid grid_;          // of the output,
    Border beyond_;      //   and what is read of the sums around their tiles
    Grid source_;        // of the input, as windows read it
    Border border_;      //   around its tiles
    bool direct_;        // windows read the value itself
    std::int64_t band_;  // rows of the output at a time
    Area sums_, staged_;
    std::vector<Move> moves_;  // from the value to what is staged; none where it is made an image
    std::vector<Move> edges_;  // of sums, where lanes are not of the image
    std::vector<std::int64_t> edge_starts_;  // of each row
    std::int64_t shared_;
    std::int64_t room_ = 0;
    std::int64_t plane_;  // of the output
    std::int64_t line_floats_;
    std::int64_t staged_place_, image_place_, lines_place_, sums_place_, given_place_,
        residual_place_, partial_place_;
    batched::StripProduct strips_;
};

Grid output_grid(const Layout& output, std::int64_t lanes) {
    if (output.grid.there()) return output.grid;
    const Grid grid = grid_of(output.height, output.width, lanes);
    if (grid.there()) return grid;
    return {1, lanes, output.height, divided_up(output.width, lanes)};
}

GridStep::GridStep(const Site& site, const Product& layer)
    : loops_(grid_loops(site.set)),
      pool_(pool_loops(site.set).batched),
      lanes_(loops_.lanes),
      input_(site.read(0)),
      output_(site.output()),
      residual_(layer.epilogue.residual < 0 ? Layout{} : site.read(1)),
      form_(layer),
      pooled_(layer.epilogue.pooling ? layer.epilogue.pooling->window : Window{}),
      stored_(static_cast<std::int64_t>(layer.weights.values.size())),
      grid_(output_grid(output_, lanes_)),
      beyond_(border_of(pooled_, {})),
      source_(grid_.scaled(pooled_.stride).scaled(form_.window.stride)),
      border_(border_of(form_.window, beyond_)),
      direct_(border_.none() && input_.grid == source_),
      band_(band()),
      sums_{length(rows_of(pooled_, {0, band_})),
            grid_.width * pooled_.stride.width + beyond_.left + beyond_.right},
      staged_{length(rows_of(form_.window, {0, sums_.rows})),
              source_.width + border_.left + border_.right},
      shared_(site.shared),
      plane_(output_.grid.there() ? output_.plane : (grid_.vectors() | 1) * lanes_),
      strips_({site.set, caches(), lanes_, direct_ ? input_.plane : staged_.plane(lanes_),
               (direct_ ? source_.width : staged_.columns) * lanes_, sums_.columns, /*pools=*/false,
               std::clamp<std::int64_t>(layer.weights.rows / least_share, 1, most_shares)},
              layer) {
    const bool beside = border_.above <= source_.height && border_.below <= source_.height &&
                        border_.left <= source_.width && border_.right <= source_.width;
    if (!direct_ && input_.grid == source_ && beside)
        moves_ = moves_of(source_, border_, {input_.height, input_.width});
    const bool pools = form_.epilogue.pooling.has_value();
    if (pools) {
        const std::vector<Move> all =
            moves_of(grid_.scaled(pooled_.stride), beyond_, {form_.sums.height, form_.sums.width});
        for (std::size_t at = 0; at < all.size(); ++at) {
            const auto number = static_cast<std::int64_t>(at);
            if (number % sums_.columns == 0)
                edge_starts_.push_back(static_cast<std::int64_t>(edges_.size()));
            if (all[at].lanes == 0xffff) continue;
            edges_.push_back(all[at]);
            edges_.back().from = static_cast<std::int32_t>(number * lanes_);
        }
        edge_starts_.push_back(static_cast<std::int64_t>(edges_.size()));
    }
    const auto lines_of = [](const Grid& grid, const Border& border) {
        return grid.down * (grid.across * grid.width + border.left + border.right) + slack;
    };
    line_floats_ = rounded_up(
        std::max({lines_of(source_, border_), lines_of(grid_, {}), lines_of(input_.grid, {})}), 16);
    const bool gives = !output_.grid.there();
    const bool adds = form_.epilogue.residual >= 0 && !residual_.grid.there();
    const std::int64_t channels = form_.sums.channels;
    staged_place_ = take(!direct_, input_.channels * staged_.plane(lanes_));
    image_place_ = take(!direct_ && input_.grid.there() && moves_.empty(),
                        input_.channels * input_.height * input_.width);
    lines_place_ = take(true, std::max(input_.channels, channels) * line_floats_);
    sums_place_ = take(pools, channels * sums_.plane(lanes_));
    given_place_ = take(gives, channels * plane_);
    residual_place_ = take(adds, channels * plane_);
    partial_place_ = take(true, strips_.shares() * strips_.partial_floats());
}

std::int64_t GridStep::take(bool wanted, std::int64_t floats) {
    const std::int64_t place = shared_ + room_;
    if (wanted) room_ += rounded_up(floats + slack, 16);
    return place;
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
               (!form_.epilogue.pooling || length(sums) * made <= 2 * most);
    };
    std::int64_t rows = grid_.height;
    while (rows > 1 && !fits(rows)) --rows;
    return divided_up(grid_.height, divided_up(grid_.height, rows));
}

// Some rows of tiles of one channel, with their borders, from an image; row 0 is the first of the
// border.
void GridStep::spread(const float* image, std::int64_t pitch, const Pair& size, const Grid& grid,
                      const Border& border, Range rows, float* lines, float* to) const {
    const std::int64_t numbers = grid.width + border.left + border.right;
    const std::int64_t length = grid.across * grid.width + border.left + border.right;
    const float* starts[most_lanes];
    for (std::int64_t lane = 0; lane < lanes_; ++lane)
        starts[lane] = lines + lane / grid.across * length + lane % grid.across * grid.width;
    const std::int64_t there = std::min(size.width, length - border.left);
    std::fill_n(lines, grid.down * length, 0.0f);
    for (std::int64_t row = rows.begin; row < rows.end; ++row, to += numbers * lanes_) {
        for (std::int64_t down = 0; down < grid.down; ++down) {
            const std::int64_t y = down * grid.height + row - border.above;
            float* const line = lines + down * length + border.left;
            if (y >= 0 && y < size.height)
                std::copy_n(image + y * pitch, there, line);
            else
                std::fill_n(line, there, 0.0f);
        }
        loops_.spread(starts, numbers, to);
    }
}

// An image of one channel from its tiles.
void GridStep::collect(const float* from, const Grid& grid, const Pair& size, float* lines,
                       float* image, std::int64_t pitch) const {
    const std::int64_t length = grid.across * grid.width;
    float* starts[most_lanes];
    for (std::int64_t lane = 0; lane < lanes_; ++lane)
        starts[lane] = lines + lane / grid.across * length + lane % grid.across * grid.width;
    for (std::int64_t row = 0; row < grid.height; ++row) {
        loops_.collect(from + row * grid.width * lanes_, grid.width, starts);
        for (std::int64_t down = 0; down < grid.down; ++down) {
            const std::int64_t y = down * grid.height + row;
            if (y < size.height) std::copy_n(lines + down * length, size.width, image + y * pitch);
        }
    }
}

// What windows of some rows of the sums read, of all channels.
void GridStep::stage(const Worker& worker, Range sums) const {
    float* const scratch = worker.scratch;
    const Range channels = worker.part(input_.channels);
    Range rows = rows_of(form_.window, sums);
    rows = {rows.begin + border_.above, rows.end + border_.above};
    float* const lines = scratch + lines_place_ + channels.begin * line_floats_;
    const Pair size{input_.height, input_.width};
    for (std::int64_t channel = channels.begin; channel < channels.end; ++channel) {
        float* const to = scratch + staged_place_ + channel * staged_.plane(lanes_);
        const float* from = scratch + input_.place + channel * input_.plane + input_.origin;
        if (!moves_.empty()) {
            loops_.move(moves_.data() + rows.begin * staged_.columns,
                        length(rows) * staged_.columns, from, to);
            continue;
        }
        std::int64_t pitch = input_.pitch;
        if (input_.grid.there()) {
            float* const image = scratch + image_place_ + channel * size.height * size.width;
            pitch = size.width;
            if (rows.begin == 0) collect(from, input_.grid, size, lines, image, pitch);
            from = image;
        }
        spread(from, pitch, size, source_, border_, rows, lines, to);
    }
}

void GridStep::stage_residual(const Worker& worker) const {
    const Range channels = worker.part(form_.sums.channels);
    for (std::int64_t channel = channels.begin; channel < channels.end; ++channel) {
        const float* const from =
            worker.scratch + residual_.place + channel * residual_.plane + residual_.origin;
        spread(from, residual_.pitch, {residual_.height, residual_.width}, grid_, {},
               {0, grid_.height}, worker.scratch + lines_place_ + channels.begin * line_floats_,
               worker.scratch + residual_place_ + channel * plane_);
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
    for (std::int64_t channel = channels.begin; channel < channels.end; ++channel) {
        if (output_.padded()) clear_around(output_, scratch, channel);
        collect(scratch + given_place_ + channel * plane_, grid_, {output_.height, output_.width},
                scratch + lines_place_ + channels.begin * line_floats_,
                scratch + output_.place + output_.origin + channel * output_.plane, output_.pitch);
    }
}

void GridStep::run(const Worker& worker) const noexcept {
    float* const scratch = worker.scratch;
    const bool pools = form_.epilogue.pooling.has_value();
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
    const Range shares = worker.part(strips_.shares());
    views.partial = scratch + partial_place_ + shares.begin * strips_.partial_floats();
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
        const Range channels = strips_.channels(shares);
        if (pools) {
            // Rows that are read again come first.
            View kept = views.output;
            kept.data = sums - there.begin * kept.row + channels.begin * kept.channel;
            kept.channels = length(channels);
            if (needed.begin < there.end)
                batched::move_rows(kept, {needed.begin, there.end}, there.begin, 0);
            views.output.data = sums + beyond_.left * lanes_ - needed.begin * kept.row;
        }
        strips_.run(views, made, columns, shares);
        if (pools) pool(sums, made, needed, output, rows, channels);
        there = needed;
    }
    if (output_.grid.there()) return;
    worker.wait_for_all();
    give(worker);
}

}  // namespace

std::unique_ptr<Step> grid_step(const Site& site, const Product& layer) {
    const bool added = layer.epilogue.residual >= 0;
    const bool reads = site.read(0).grid.there(), gives = site.output().grid.there();
    const bool adds = added && site.read(1).grid.there();
    if (!reads && !gives && !adds) return nullptr;
    const auto& [kernel, stride, padding, dilation] = layer.window;
    const bool each_pixel = layer.taps() == 1 && stride.height == 1 && stride.width == 1 &&
                            padding.height == 0 && padding.width == 0;
    if (each_pixel && reads && gives && adds == added && !layer.epilogue.pooling) return nullptr;
    return std::make_unique<GridStep>(site, layer);
}

}  // namespace gossamer::single
