#include "training/linear.hpp"

#include <algorithm>
#include <cstring>

#include "core/threads.hpp"
#include "training/workspace.hpp"

namespace gossamer::training {

namespace {

// Tiles further apart than this are copied to where they follow each other: rows whose distance is
// a large power of two would share few places in the caches.
constexpr std::int64_t most_apart = 512;

// Values that are read tile by tile: where they lie if that serves, or else from a copy.
class Source {
  public:
    Source(const Strided& values, std::int64_t features, const Tiles& tiles)
        : values_(values),
          features_(features),
          in_place_(values.example == 1 && tiles.whole() && values.feature <= most_apart),
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

// [features][examples] that are written tile by tile: where they lie if lanes and examples are the
// same, or else by way of a tile of their own.
class Sink {
  public:
    Sink(float* values, const Sorted& matrix, std::int64_t examples, const Tiles& tiles)
        : values_(values),
          examples_(examples),
          // Sums that are taken out of memory again should follow each other, too.
          in_place_(tiles.whole() && (matrix.slices == 1 || examples <= most_apart)),
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

void differentiate(const Loops& loops, const Index& index, const float* values, Range columns,
                   const Tile& gradient, const Tile& inputs, std::int64_t vectors, bool adds,
                   const Tile& of_inputs, float* of_values) {
    const Sorted& matrix = index.by_column();
    for (std::int64_t slice = 0; slice < matrix.slices; ++slice) {
        loops.differentiate[vectors](matrix.part(slice, columns), index.order().data(), values,
                                     gradient, inputs, slice > 0, adds, of_inputs, of_values);
    }
}

}  // namespace

void forward(const Index& index, const float* values, const float* bias, const Strided& inputs,
             std::int64_t examples, float* outputs, int threads) {
    if (examples == 0) return;
    const Loops& loops = training_loops(index.instruction_set());
    const Sorted& matrix = index.by_row();
    const Tiles tiles(examples, loops.width);
    Source source(inputs, matrix.columns, tiles);
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
    Source of_inputs(inputs, by_row.columns, tiles), of_gradient(gradient, by_row.rows, tiles);
    Sink sink(wanted.inputs, by_column, examples, tiles);
    Workspace workspace(of_inputs.floats() + of_gradient.floats() + sink.floats());
    of_inputs.place(workspace);
    of_gradient.place(workspace);
    sink.place(workspace);
    const int passes = (wanted.inputs ? 1 : 0) + (wanted.bias ? 1 : 0);
    Team team(members_for((index.count() * passes + by_row.rows) * tiles.vectors(), threads));
    team.run([&](int member) {
        const int members = team.gather(member, patience);
        const Range rows = by_row.share(member, members);
        const Range columns = by_column.share(member, members);
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
                differentiate(loops, index, values, columns, gradients, given, vectors, number > 0,
                              sink.tile(of), wanted.values);
                sink.put(columns, of);
            } else if (wanted.values) {
                sample(loops, by_row, rows, gradients, given, vectors, number > 0, wanted.values);
            }
            if (wanted.bias) loops.total[vectors](rows, gradients, number > 0, wanted.bias);
        }
    });
}

}  // namespace gossamer::training
