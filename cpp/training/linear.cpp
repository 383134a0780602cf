#include "training/linear.hpp"

#include <algorithm>
#include <cstring>

#include "core/threads.hpp"
#include "training/workspace.hpp"

namespace gossamer::training {

namespace {

// Values that are read tile by tile: where they lie if that serves, or else from a copy.
class Source {
  public:
    Source(const Strided& values, std::int64_t features, const Tiles& tiles, const Loops& loops)
        : values_(values),
          features_(features),
          in_place_(values.example == 1 && tiles.whole() && values.feature <= loops.most_apart),
          lanes_(tiles.most_lanes()) {}

    bool in_place() const { return in_place_; }
    std::int64_t floats() const { return in_place_ ? 0 : Workspace::rounded(features_ * lanes_); }
    void place(Workspace& workspace) { copy_ = workspace.take(floats()); }

    Tile tile(Range examples) const {
        // Nothing writes to a tile that is in place.
        if (in_place_) return {const_cast<float*>(values_.data) + examples.begin, values_.feature};
        return {copy_, lanes_};
    }

    // A member's share of the copy.
    void copy(const Loops& loops, Range examples, std::int64_t vectors, int member,
              int members) const {
        if (in_place_) return;
        const Range share{features_ * member / members, features_ * (member + 1) / members};
        const std::int64_t lanes = vectors * loops.width, count = examples.end - examples.begin;
        if (values_.feature == 1) {
            const float* const from = values_.data + examples.begin * values_.example;
            return loops.take(from, values_.example, count, share, lanes, tile(examples));
        }
        for (std::int64_t i = share.begin; i < share.end; ++i) {
            float* const to = copy_ + i * lanes_;
            std::memcpy(to, values_.data + i * values_.feature + examples.begin,
                        static_cast<std::size_t>(count) * sizeof(float));
            std::fill(to + count, to + lanes, 0.0f);
        }
    }

  private:
    Strided values_;
    std::int64_t features_;
    bool in_place_;
    std::int64_t lanes_;
    float* copy_ = nullptr;
};

// Sums of rows that are written and taken out of memory again follow each other unless they are
// few.
constexpr std::int64_t most_examples = 512;

// [features][examples] that are written tile by tile: where they lie if lanes and examples are the
// same, or else by way of a tile of their own.
class Sink {
  public:
    Sink(float* values, const Sorted& matrix, std::int64_t examples, const Tiles& tiles)
        : values_(values),
          examples_(examples),
          in_place_(tiles.whole() && (matrix.slices == 1 || examples <= most_examples)),
          lanes_(tiles.most_lanes()),
          floats_(values && !in_place_ ? Workspace::rounded(matrix.rows * lanes_) : 0) {}

    std::int64_t floats() const { return floats_; }
    void place(Workspace& workspace) { copy_ = workspace.take(floats_); }

    Tile tile(Range examples) const {
        if (in_place_) return {values_ + examples.begin, examples_};
        return {copy_, lanes_};
    }

    void put(Range features, Range examples) const {
        if (in_place_) return;
        const auto bytes = static_cast<std::size_t>(examples.end - examples.begin) * sizeof(float);
        for (std::int64_t i = features.begin; i < features.end; ++i)
            std::memcpy(values_ + i * examples_ + examples.begin, copy_ + i * lanes_, bytes);
    }

  private:
    float* values_;
    std::int64_t examples_;
    bool in_place_;
    std::int64_t lanes_;
    std::int64_t floats_;
    float* copy_ = nullptr;
};

// Values in order of columns, and the gradient of each, so that several tiles need not look for
// them one by one in order of rows. A single tile does.
class ByColumn {
  public:
    ByColumn(const Index& index, const float* values, const Gradients& wanted, const Tiles& tiles)
        : index_(index),
          values_(values),
          of_values_(wanted.values),
          copied_(wanted.inputs && tiles.count() > 1),
          adds_(copied_ && of_values_) {}

    std::int64_t floats() const {
        return Workspace::rounded(index_.count()) * ((copied_ ? 1 : 0) + (adds_ ? 1 : 0));
    }
    void place(Workspace& workspace) {
        if (copied_) copy_ = workspace.take(index_.count());
        if (adds_) of_copy_ = workspace.take(index_.count());
    }

    // Null if all is in order of columns.
    const std::int32_t* order() const { return copied_ ? nullptr : index_.order().data(); }
    const float* values() const { return copied_ ? copy_ : values_; }
    float* of_values() const { return copied_ ? of_copy_ : of_values_; }

    // Those of some columns.
    void take(Range columns) const {
        if (copied_) each(columns, [&](auto at, auto place) { copy_[at] = values_[place]; });
    }
    void put(Range columns) const {
        if (adds_) each(columns, [&](auto at, auto place) { of_values_[place] = of_copy_[at]; });
    }

  private:
    template <class Use>
    void each(Range columns, const Use& use) const {
        const Range range = index_.by_column().non_zeros(columns);
        const std::int32_t* const order = index_.order().data();
        for (std::int64_t at = range.begin; at < range.end; ++at) use(at, order[at]);
    }

    const Index& index_;
    const float* values_;
    float* of_values_;
    bool copied_;
    bool adds_;
    float* copy_ = nullptr;
    float* of_copy_ = nullptr;
};

// All slices of some rows, one after the other.
void multiply(const Loops& loops, const Sorted& matrix, const float* values, Range rows,
              const Tile& inputs, const float* bias, std::int64_t vectors, const Tile& outputs) {
    for (std::int64_t slice = 0; slice < matrix.slices; ++slice)
        loops.multiply[vectors](matrix.part(slice, rows), values, inputs, bias, slice > 0, outputs);
}

void sample(const Loops& loops, const Sorted& matrix, Range rows, const Tile& gradient,
            const Tile& inputs, std::int64_t vectors, bool adds, float* values) {
    for (std::int64_t slice = 0; slice < matrix.slices; ++slice)
        loops.sample[vectors](matrix.part(slice, rows), gradient, inputs, adds, values);
}

void differentiate(const Loops& loops, const Sorted& matrix, const ByColumn& values, Range columns,
                   const Tile& gradient, const Tile& inputs, std::int64_t vectors, bool adds,
                   const Tile& of_inputs) {
    for (std::int64_t slice = 0; slice < matrix.slices; ++slice) {
        loops.differentiate[vectors](matrix.part(slice, columns), values.order(), values.values(),
                                     gradient, inputs, slice > 0, adds, of_inputs,
                                     values.of_values());
    }
}

}  // namespace

void forward(const Index& index, const float* values, const float* bias, const Strided& inputs,
             std::int64_t examples, float* outputs, int threads) {
    if (examples == 0) return;
    const Loops& loops = training_loops(index.instruction_set());
    const Sorted& matrix = index.by_row();
    const Tiles tiles(examples, loops.width);
    Source source(inputs, matrix.columns, tiles, loops);
    Sink sink(outputs, matrix, examples, tiles);
    Workspace workspace(source.floats() + sink.floats());
    source.place(workspace);
    sink.place(workspace);
    Team team(members_for((index.count() + matrix.rows) * tiles.vectors(), threads));
    team.run([&](int member) {
        const int members = team.gather(member, patience);
        const Range rows = matrix.share(member, members);
        for (std::int64_t number = 0; number < tiles.count(); ++number) {
            const Range of = tiles.examples_of(number), range = tiles.vectors_of(number);
            const std::int64_t vectors = range.end - range.begin;
            if (!source.in_place()) {
                if (number > 0) team.wait_for_all();
                source.copy(loops, of, vectors, member, members);
                team.wait_for_all();
            }
            multiply(loops, matrix, values, rows, source.tile(of), bias, vectors, sink.tile(of));
            sink.put(rows, of);
        }
    });
}

void backward(const Index& index, const float* values, const Strided& inputs,
              const Strided& gradient, std::int64_t examples, const Gradients& wanted,
              int threads) {
    const Sorted &by_row = index.by_row(), &by_column = index.by_column();
    if (examples == 0) {
        if (wanted.values) std::fill_n(wanted.values, index.count(), 0.0f);
        if (wanted.bias) std::fill_n(wanted.bias, by_row.rows, 0.0f);
        return;
    }
    const Loops& loops = training_loops(index.instruction_set());
    const Tiles tiles(examples, loops.width);
    Source of_inputs(inputs, by_row.columns, tiles, loops);
    Source of_gradient(gradient, by_row.rows, tiles, loops);
    Sink sink(wanted.inputs, by_column, examples, tiles);
    ByColumn ordered(index, values, wanted, tiles);
    Workspace workspace(of_inputs.floats() + of_gradient.floats() + sink.floats() +
                        ordered.floats());
    of_inputs.place(workspace);
    of_gradient.place(workspace);
    sink.place(workspace);
    ordered.place(workspace);
    const int passes = (wanted.inputs ? 1 : 0) + (wanted.bias ? 1 : 0);
    Team team(members_for((index.count() * passes + by_row.rows) * tiles.vectors(), threads));
    team.run([&](int member) {
        const int members = team.gather(member, patience);
        const Range rows = by_row.share(member, members);
        const Range columns = by_column.share(member, members);
        ordered.take(columns);
        for (std::int64_t number = 0; number < tiles.count(); ++number) {
            const Range of = tiles.examples_of(number), range = tiles.vectors_of(number);
            const std::int64_t vectors = range.end - range.begin;
            if (!of_inputs.in_place() || !of_gradient.in_place()) {
                if (number > 0) team.wait_for_all();
                if (wanted.bias) of_inputs.copy(loops, of, vectors, member, members);
                of_gradient.copy(loops, of, vectors, member, members);
                team.wait_for_all();
            }
            const Tile gradients = of_gradient.tile(of), given = of_inputs.tile(of);
            if (wanted.inputs) {
                differentiate(loops, by_column, ordered, columns, gradients, given, vectors,
                              number > 0, sink.tile(of));
                sink.put(columns, of);
            } else if (wanted.values) {
                sample(loops, by_row, rows, gradients, given, vectors, number > 0, wanted.values);
            }
            if (wanted.bias) loops.total[vectors](rows, gradients, number > 0, wanted.bias);
        }
        ordered.put(columns);
    });
}

}  // namespace gossamer::training
