// One direction of one recurrent layer, over the steps of a sequence.
#include "core/plain.hpp"
#include "simd/dispatch.hpp"

namespace gossamer {

enum class CellKind { lstm, gru, tanh, relu };

// What one step does with its numbers; `given` and `hidden` have so many for each gate.
struct CellTask {
    CellKind kind;
    std::int64_t units;
    const float* given;   // what comes of the inputs
    const float* hidden;  // of the state before
    const float* bias;    // added to `hidden`, or null
    float* state;
    float* cells;  // of an LSTM
};

// The same of examples side by side, the numbers of one in each lane.
struct SideBySideTask {
    CellKind kind;
    std::int64_t units;
    const float* given;  // of this step
    std::ptrdiff_t given_row;
    const float* hidden;
    const std::int32_t* places;  // at which row of `hidden` each row lies
    const float* bias;           // or null
    float* state;                // [units][lanes]
    float* cells;
    float* output;  // of this step: states, and behind them cells where `gives_cells`
    std::ptrdiff_t output_row;
    bool gives_cells;
};

struct CellLoops {
    // Vectors are read and written beyond the units where there is room for them.
    void (*one)(const CellTask&);
    void (*side_by_side)(const SideBySideTask&);
};

GOSSAMER_DECLARE(CellLoops, cell_loops)

}  // namespace gossamer

#ifdef GOSSAMER_INSTRUCTION_SET
#include "simd/activations.hpp"

namespace gossamer {
namespace {

// The next state of some units, and their next cells. `given` and `hidden` give the numbers of a
// gate.
template <typename Given, typename Hidden>
GOSSAMER_INLINE Vector next_state(CellKind kind, const Given& given, const Hidden& hidden,
                                  Vector state, Vector& cells) {
    if (kind == CellKind::lstm) {
        const Vector enter = sigmoid(given(0) + hidden(0));
        const Vector forget = sigmoid(given(1) + hidden(1));
        cells = forget * cells + enter * hyperbolic_tangent(given(2) + hidden(2));
        return sigmoid(given(3) + hidden(3)) * hyperbolic_tangent(cells);
    }
    if (kind == CellKind::gru) {
        const Vector reset = sigmoid(given(0) + hidden(0));
        const Vector kept = sigmoid(given(1) + hidden(1));
        const Vector fresh = hyperbolic_tangent(given(2) + reset * hidden(2));
        return (1.0f - kept) * fresh + kept * state;
    }
    const Vector sum = given(0) + hidden(0);
    return kind == CellKind::tanh ? hyperbolic_tangent(sum) : at_least(sum, 0.0f);
}

void compute(const CellTask& task) {
    for (int64_t at = 0; at < task.units; at += width) {
        const auto hidden = [&](int64_t gate) GOSSAMER_LAMBDA_INLINE {
            const int64_t place = gate * task.units + at;
            const Vector found = load_any<Vector>(task.hidden + place);
            return task.bias ? found + load_any<Vector>(task.bias + place) : found;
        };
        const auto given = [&](int64_t gate) GOSSAMER_LAMBDA_INLINE {
            return load_any<Vector>(task.given + gate * task.units + at);
        };
        Vector cells = load_any<Vector>(task.cells + at);
        const Vector state =
            next_state(task.kind, given, hidden, load_any<Vector>(task.state + at), cells);
        store_any(task.cells + at, cells);
        store_any(task.state + at, state);
    }
}

// Steps of a row follow each other: what comes soon is fetched ahead.
constexpr int64_t steps_ahead = 4;

void compute_side_by_side(const SideBySideTask& task) {
    for (int64_t unit = 0; unit < task.units; ++unit) {
        const auto hidden = [&](int64_t gate) GOSSAMER_LAMBDA_INLINE {
            const int64_t row = gate * task.units + unit;
            const Vector found = load(task.hidden + task.places[row] * width);
            return task.bias ? found + broadcast(task.bias[row]) : found;
        };
        const auto given = [&](int64_t gate) GOSSAMER_LAMBDA_INLINE {
            const float* from = task.given + (gate * task.units + unit) * task.given_row;
            __builtin_prefetch(from + steps_ahead * width, 0, 2);
            return load(from);
        };
        float* const kept = task.cells + unit * width;
        Vector cells = load(kept);
        const Vector state =
            next_state(task.kind, given, hidden, load(task.state + unit * width), cells);
        store(kept, cells);
        store(task.state + unit * width, state);
        store(task.output + unit * task.output_row, state);
        if (task.gives_cells) store(task.output + (task.units + unit) * task.output_row, cells);
    }
}

}  // namespace

GOSSAMER_EXPORT(CellLoops, cell_loops, {compute, compute_side_by_side})

}  // namespace gossamer

#else
#include <algorithm>
#include <numeric>
#include <utility>

#include "batched/matrix.hpp"
#include "batched/steps.hpp"
#include "ops/layer.hpp"
#include "single/matrix_vector.hpp"
#include "single/steps.hpp"

namespace gossamer {
namespace {

CellKind kind_named(const std::string& name) {
    if (name == "lstm") return CellKind::lstm;
    if (name == "gru") return CellKind::gru;
    if (name == "tanh") return CellKind::tanh;
    if (name == "relu") return CellKind::relu;
    throw std::invalid_argument("recurrence: there is no cell \"" + name + "\"");
}

class Recurrence final : public Layer {
  public:
    explicit Recurrence(Fields& fields)
        : weights(fields.take<Weights>("weights")),
          kind(kind_named(fields.take<std::string>("cell"))),
          bias(fields.take<Floats>("bias", {})),
          reverse(fields.take<bool>("reverse", false)),
          cells(fields.take<bool>("cells", false)) {}

    std::size_t arity() const override { return 0; }

    Shape check(const Check& check) override {
        check.weights(weights);
        const std::int64_t units = weights.columns, rows = weights.rows;
        const bool lstm = kind == CellKind::lstm;
        const std::int64_t gates = lstm ? 4 : kind == CellKind::gru ? 3 : 1;
        const Shape& given = taken[0];
        check.require(rows % gates == 0 && rows / gates == units,
                      "weights must have a row for each unit and gate");
        check.require(given.image && given.height == 1 && given.channels == rows,
                      "must read [gates x units, 1, steps]");
        check.require(bias.empty() || static_cast<std::int64_t>(bias.size()) == rows,
                      "bias must have a number for each row");
        check.require(lstm || !cells, "cells are of an LSTM alone");
        check.require(taken.size() == 1 || taken.size() == (lstm ? 3u : 2u),
                      "must read a state, and an LSTM cells, too, or none");
        for (std::size_t which = 1; which < taken.size(); ++which)
            check.require(!taken[which].image && taken[which].channels == units,
                          "a state must have as many numbers as there are units");
        return {true, units * (cells ? 2 : 1), 1, given.width};
    }

    std::unique_ptr<single::Step> make_single(const single::Site& site) const override;
    std::unique_ptr<batched::Step> make_batched(const batched::Context& context,
                                                int number) const override;

    Weights weights;
    CellKind kind;
    Floats bias;
    bool reverse;
    bool cells;
};

// Steps are computed one after the other on one thread. What comes of the inputs lies in planes of
// steps; a step at a time is copied from there, so that its numbers are neighbours.
class RecurrenceStep final : public single::Step {
  public:
    RecurrenceStep(const single::Site& site, const Recurrence& layer)
        : product_(layer.weights, site.set),
          compute_(cell_loops(site.set).one),
          input_(site.read(0)),
          output_(site.output()),
          shared_(site.shared),
          kind_(layer.kind),
          units_(layer.weights.columns),
          rows_(layer.weights.rows),
          bias_(single::with_slack(layer.bias)),
          reverse_(layer.reverse),
          cells_(layer.cells) {
        for (std::size_t which = 1; which < layer.reads.size(); ++which)
            initial_.push_back(site.read(which));
    }

    double nanoseconds() const override { return 0.0; }
    std::int64_t room() const override {
        return 2 * padded(units_) + (1 + steps_at_once) * padded(rows_);
    }

    void run(const single::Worker& worker) const noexcept override {
        float* const state = worker.scratch + shared_;
        float* const cells = state + padded(units_);
        float* const hidden = cells + padded(units_);
        float* const given = hidden + padded(rows_);
        std::fill_n(state, room(), 0.0f);
        if (!initial_.empty()) std::copy_n(initial_[0].view(worker.scratch).data, units_, state);
        if (initial_.size() > 1) std::copy_n(initial_[1].view(worker.scratch).data, units_, cells);
        const View from = input_.view(worker.scratch), to = output_.view(worker.scratch);
        if (output_.padded())
            for (std::int64_t plane = 0; plane < to.channels; ++plane)
                single::clear_around(output_, worker.scratch, plane);
        const std::int64_t steps = from.pixels;
        for (std::int64_t done = 0; done < steps; done += steps_at_once) {
            const std::int64_t some = std::min(steps_at_once, steps - done);
            const std::int64_t first = reverse_ ? steps - done - some : done;
            take(from, first, some, given);
            for (std::int64_t number = 0; number < some; ++number) {
                const std::int64_t step = reverse_ ? some - 1 - number : number;
                product_.multiply(worker, state, hidden);
                compute_({kind_, units_, given + step * padded(rows_), hidden,
                          bias_.empty() ? nullptr : bias_.data(), state, cells});
                // The product counts on zeros behind a vector.
                std::fill_n(state + units_, padded(units_) - units_, 0.0f);
                give(state, to, 0, first + step);
                if (cells_) give(cells, to, units_, first + step);
            }
        }
    }

  private:
    static constexpr std::int64_t steps_at_once = 16;

    static std::int64_t padded(std::int64_t numbers) {
        return rounded_up(numbers + single::slack, 16);
    }

    void take(const View& from, std::int64_t first, std::int64_t steps, float* given) const {
        for (std::int64_t row = 0; row < rows_; ++row) {
            const float* const plane = from.data + row * from.channel + first;
            for (std::int64_t step = 0; step < steps; ++step)
                given[step * padded(rows_) + row] = plane[step];
        }
    }

    void give(const float* numbers, const View& to, std::int64_t plane, std::int64_t step) const {
        for (std::int64_t unit = 0; unit < units_; ++unit)
            to.data[(plane + unit) * to.channel + step] = numbers[unit];
    }

    single::MatrixVector product_;
    decltype(CellLoops::one) compute_;
    single::Layout input_, output_;
    std::vector<single::Layout> initial_;
    std::int64_t shared_;
    CellKind kind_;
    std::int64_t units_, rows_;
    std::vector<float> bias_;
    bool reverse_;
    bool cells_;
};

std::unique_ptr<single::Step> Recurrence::make_single(const single::Site& site) const {
    return std::make_unique<RecurrenceStep>(site, *this);
}

// Rows in the order of their length, so that loops end where the processor expects it.
struct SortedRows {
    explicit SortedRows(const Weights& given) : weights(given), places(given.rows) {
        std::vector<std::int32_t> order(places.size());
        std::iota(order.begin(), order.end(), 0);
        if (given.kind == WeightsKind::sparse) {
            const auto size = [&](std::int32_t row) {
                return given.starts[row + 1] - given.starts[row];
            };
            std::stable_sort(order.begin(), order.end(),
                             [&](auto left, auto right) { return size(left) > size(right); });
            weights.starts = {0};
            weights.values.clear();
            weights.indices.clear();
            for (const std::int32_t row : order) {
                const std::int64_t begin = given.starts[row], end = given.starts[row + 1];
                weights.values.insert(weights.values.end(), given.values.begin() + begin,
                                      given.values.begin() + end);
                weights.indices.insert(weights.indices.end(), given.indices.begin() + begin,
                                       given.indices.begin() + end);
                weights.starts.push_back(static_cast<std::int64_t>(weights.values.size()));
            }
        }
        for (std::size_t place = 0; place < order.size(); ++place)
            places[order[place]] = static_cast<std::int32_t>(place);
    }

    Weights weights;
    std::vector<std::int32_t> places;  // of each row
};

// A group of examples, step by step.
class SideBySideStep final : public batched::Step {
  public:
    SideBySideStep(const batched::Context& context, const Recurrence& layer, int number)
        : compute_(cell_loops(context.set).side_by_side),
          rows_(layer.weights),
          matrix_(rows_.weights, 1,
                  {rounded_up(layer.weights.rows, block_rows), {0, layer.weights.columns}},
                  [width = context.width()](std::int64_t, std::int64_t column) {
                      return static_cast<std::int32_t>(column * width);
                  }),
          multiply_(
              (matrix_.blocks() ? batched::block_loops : batched::scattered_loops)(context.set)
                  .plain[0][1]),
          reads_(layer.reads),
          number_(number),
          width_(context.width()),
          units_(layer.weights.columns),
          kind_(layer.kind),
          bias_(layer.bias),
          reverse_(layer.reverse),
          cells_(layer.cells) {}

    std::int64_t partial_floats() const override {
        return width_ * (2 * units_ + rounded_up(rows_.weights.rows, block_rows));
    }

    void run(const batched::Context& context, const batched::Batch& batch,
             std::int64_t group) const override {
        batched::timed(batch, number_, [&] {
            const View from = context.view(reads_[0], batch, group);
            const View to = context.view(number_ + 1, batch, group);
            float* const state = batch.partial;
            float* const cells = state + width_ * units_;
            float* const hidden = cells + width_ * units_;
            std::fill_n(state, 2 * width_ * units_, 0.0f);
            for (std::size_t which = 1; which < reads_.size(); ++which) {
                const View initial = context.view(reads_[which], batch, group);
                for (std::int64_t unit = 0; unit < units_; ++unit)
                    std::copy_n(initial.data + unit * initial.channel, width_,
                                (which == 1 ? state : cells) + unit * width_);
            }
            batched::Strip strip{};
            strip.input = state;
            strip.output = hidden;
            strip.output_channel = width_;
            for (std::int64_t number = 0; number < from.pixels; ++number) {
                const std::int64_t step = reverse_ ? from.pixels - 1 - number : number;
                for (const batched::Panel& panel : matrix_.panels()) multiply_(strip, panel);
                compute_({kind_, units_, from.data + step * width_, from.channel, hidden,
                          rows_.places.data(), bias_.empty() ? nullptr : bias_.data(), state, cells,
                          to.data + step * width_, to.channel, cells_});
            }
        });
    }

  private:
    decltype(CellLoops::side_by_side) compute_;
    SortedRows rows_;
    batched::PackedMatrix matrix_;
    batched::StripKernel multiply_;
    std::vector<int> reads_;
    int number_;
    std::int64_t width_;
    std::int64_t units_;
    CellKind kind_;
    std::vector<float> bias_;
    bool reverse_;
    bool cells_;
};

std::unique_ptr<batched::Step> Recurrence::make_batched(const batched::Context& context,
                                                        int number) const {
    return std::make_unique<SideBySideStep>(context, *this, number);
}

GOSSAMER_OPERATOR("recurrence", Recurrence)

}  // namespace
}  // namespace gossamer
#endif
