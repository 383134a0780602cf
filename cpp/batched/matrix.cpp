#include "batched/matrix.hpp"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <numeric>

namespace gossamer::batched {

namespace {

std::size_t at(std::int64_t number) { return static_cast<std::size_t>(number); }

// Where rows of a dense matrix read different inputs, each has to say which: as blocks where 4 rows
// read the same ones, or else as scattered weights.
Weights with_indices(const Weights& dense, bool blocks) {
    Weights weights{
        blocks ? WeightsKind::block : WeightsKind::sparse, dense.rows, dense.columns, {}, {0}, {}};
    const std::int64_t lanes = blocks ? block_rows : 1;
    for (std::int64_t row = 0; row < dense.rows; row += lanes) {
        for (std::int64_t column = 0; column < dense.columns; ++column) {
            weights.indices.push_back(static_cast<std::int32_t>(column));
            for (std::int64_t lane = 0; lane < lanes; ++lane)
                weights.values.push_back(dense.values[at((row + lane) * dense.columns + column)]);
        }
        weights.starts.push_back(static_cast<std::int64_t>(weights.indices.size()));
    }
    return weights;
}

// Four values, then four offsets, in the place of four entries.
void store_by_fours(Entry* four) {
    float values[4];
    std::int32_t offsets[4];
    for (int number = 0; number < 4; ++number) {
        values[number] = four[number].value;
        offsets[number] = four[number].offset;
    }
    static_assert(sizeof(values) + sizeof(offsets) == 4 * sizeof(Entry));
    std::memcpy(four, values, sizeof(values));
    std::memcpy(four + 2, offsets, sizeof(offsets));
}

}  // namespace

// Fills the arrays of a matrix, one panel after the other.
class Packer {
  public:
    Packer(PackedMatrix& to, const Weights& weights, std::int64_t share, const OffsetOf& offset)
        : to_(to), weights_(weights), share_(share), offset_(offset) {}

    void add(Panel panel, std::int64_t from, std::int64_t end) {
        places_.push_back({to_.order_.size(), to_.starts_.size(), to_.entries_.size(),
                           to_.offsets_.size(), to_.values_.size()});
        panel.columns = static_cast<std::int32_t>(end - from);
        to_.panels_.push_back(panel);
        if (weights_.kind == WeightsKind::dense) return add_dense(panel, from, end);
        if (to_.blocks_)
            for (std::int64_t row = 0; row < panel.rows; row += block_rows)
                add_blocks(panel.first_row + row, from, end);
        else
            add_scattered(panel, from, end);
        to_.starts_.push_back(stored_in_panel());
    }

    // Point the panels at the arrays, which from now on stay where they are.
    void finish() {
        for (std::size_t number = 0; number < places_.size(); ++number) {
            Panel& panel = to_.panels_[number];
            const Places& place = places_[number];
            const bool dense = weights_.kind == WeightsKind::dense;
            panel.order = to_.order_.data() + place.order;
            panel.starts = dense ? nullptr : to_.starts_.data() + place.starts;
            panel.entries = to_.entries_.data() + place.entries;
            panel.offsets = to_.offsets_.data() + place.offsets;
            panel.values = to_.values_.data() + place.values;
        }
    }

  private:
    struct Places {
        std::size_t order, starts, entries, offsets, values;
    };

    // Some of the indices of a row of weights, or of blocks.
    struct Held {
        std::int64_t begin, end;
        std::int64_t size() const { return end - begin; }
    };

    // Those between two columns.
    Held held_by(std::int64_t row, std::int64_t from, std::int64_t end) const {
        const auto indices = weights_.indices.begin();
        const auto first = indices + weights_.starts[at(row)];
        const auto last = indices + weights_.starts[at(row + 1)];
        const auto begin = std::lower_bound(first, last, from);
        return {begin - indices, std::lower_bound(begin, last, end) - indices};
    }

    std::int32_t stored_in_panel() const {
        const Places& place = places_.back();
        return static_cast<std::int32_t>(to_.blocks_ ? to_.offsets_.size() - place.offsets
                                                     : to_.entries_.size() - place.entries);
    }

    // All rows have the same offsets, which are kept once.
    void add_dense(const Panel& panel, std::int64_t from, std::int64_t end) {
        for (std::int64_t column = from; column < end; ++column)
            to_.offsets_.push_back(offset_(panel.first_row, column));
        for (std::int64_t row = panel.first_row; row < panel.first_row + panel.rows;
             row += block_rows) {
            for (std::int64_t column = from; column < end; ++column) {
                for (std::int64_t lane = row; lane < row + block_rows; ++lane) {
                    const bool there = lane < weights_.rows;
                    to_.values_.push_back(
                        there ? weights_.values[at(lane * weights_.columns + column)] : 0.0f);
                }
            }
        }
    }

    void add_blocks(std::int64_t row, std::int64_t from, std::int64_t end) {
        to_.starts_.push_back(stored_in_panel());
        const Held held = held_by(row / block_rows, from, end);
        for (std::int64_t number = held.begin; number < held.end; ++number)
            to_.offsets_.push_back(offset_(row, weights_.indices[at(number)]));
        const auto values = weights_.values.begin();
        to_.values_.insert(to_.values_.end(), values + block_rows * held.begin,
                           values + block_rows * held.end);
    }

    void add_scattered(const Panel& panel, std::int64_t from, std::int64_t end) {
        std::vector<Held> held;
        for (std::int64_t row = 0; row < panel.rows; ++row)
            held.push_back(held_by(panel.first_row + row, from, end));
        std::vector<std::int32_t> order(held.size());
        std::iota(order.begin(), order.end(), 0);
        const bool parts = !panel.begins || !panel.ends;
        for (std::int64_t row = 0; parts && row < panel.rows; row += share_) {
            const auto first = order.begin() + row;
            std::stable_sort(first, first + std::min(share_, panel.rows - row),
                             [&](std::int32_t a, std::int32_t b) {
                                 return held[at(a)].size() > held[at(b)].size();
                             });
        }
        for (const std::int32_t row : order) add_row(panel.first_row + row, held[at(row)]);
        if (!parts) return;
        to_.order_.insert(to_.order_.end(), order.begin(), order.end());
        to_.order_.insert(to_.order_.end(), rows_ahead, order.back());
    }

    void add_row(std::int64_t row, Held held) {
        to_.starts_.push_back(stored_in_panel());
        const std::size_t begin = to_.entries_.size();
        for (std::int64_t number = held.begin; number < held.end; ++number) {
            const std::int32_t offset = offset_(row, weights_.indices[at(number)]);
            to_.entries_.push_back({weights_.values[at(number)], offset});
        }
        for (std::size_t four = begin; four + 4 <= to_.entries_.size(); four += 4)
            store_by_fours(&to_.entries_[four]);
    }

    PackedMatrix& to_;
    const Weights& weights_;
    std::int64_t share_;
    const OffsetOf& offset_;
    std::vector<Places> places_;
};

bool in_blocks(const Weights& weights, std::int64_t groups) {
    const bool spread = weights.kind == WeightsKind::dense && groups > 1;
    return spread ? weights.rows / groups % block_rows == 0 : weights.kind != WeightsKind::sparse;
}

PackedMatrix::PackedMatrix(const Weights& weights, std::int64_t groups, const Cut& cut,
                           const OffsetOf& offset) {
    const bool spread = weights.kind == WeightsKind::dense && groups > 1;
    blocks_ = in_blocks(weights, groups);
    const Weights indexed = spread ? with_indices(weights, blocks_) : Weights{};
    const Weights& packed = spread ? indexed : weights;
    Packer packer(*this, packed, cut.share > 0 ? cut.share : packed.rows, offset);
    for (std::int64_t first = 0; first < packed.rows; first += cut.rows) {
        for (std::size_t slice = 0; slice + 1 < cut.slice_columns.size(); ++slice) {
            Panel panel{};
            panel.first_row = first;
            panel.rows = std::min(cut.rows, packed.rows - first);
            panel.begins = slice == 0;
            panel.ends = slice + 2 == cut.slice_columns.size();
            packer.add(panel, cut.slice_columns[slice], cut.slice_columns[slice + 1]);
        }
    }
    if (!blocks_) entries_.resize(entries_.size() + entries_behind, Entry{});
    packer.finish();
    put_in_large_pages(entries_);
    put_in_large_pages(values_);
}

}  // namespace gossamer::batched
