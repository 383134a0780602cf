#include "wide_matrix.hpp"

#include <algorithm>
#include <cstddef>
#include <cstring>

namespace gossamer {

namespace {

std::size_t at(std::int64_t number) { return static_cast<std::size_t>(number); }

// Where rows of a dense matrix read different inputs, each has to say which: as blocks where 4 rows
// read the same ones, or else as scattered weights.
Weights with_indices(const Weights& dense, bool blocks) {
    Weights weights{blocks ? WeightsKind::block : WeightsKind::sparse, dense.rows, dense.columns,
                    {}, {0}, {}};
    const std::int64_t lanes = blocks ? block_rows : 1;
    for (std::int64_t row = 0; row < dense.rows; row += lanes) {
        for (std::int64_t column = 0; column < dense.columns; ++column) {
            weights.indices.push_back(static_cast<std::int32_t>(column));
            for (std::int64_t lane = 0; lane < lanes; ++lane) {
                weights.values.push_back(dense.values[at((row + lane) * dense.columns + column)]);
            }
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
    Packer(PackedMatrix& to, const Weights& weights, const OffsetOf& offset)
        : to_(to), weights_(weights), offset_(offset) {}

    void add(Panel panel, std::int64_t from, std::int64_t end) {
        places_.push_back({to_.starts_.size(), to_.entries_.size(), to_.offsets_.size(),
                           to_.values_.size()});
        panel.columns = static_cast<std::int32_t>(end - from);
        to_.panels_.push_back(panel);
        if (weights_.kind == WeightsKind::dense) return add_dense(panel, from, end);
        const std::int64_t lanes = to_.blocks_ ? block_rows : 1;
        for (std::int64_t row = panel.first_row; row < panel.first_row + panel.rows; row += lanes) {
            to_.starts_.push_back(stored_in_panel());
            const std::size_t begin = to_.entries_.size();
            add_row(row, row / lanes, from, end);
            for (std::size_t four = begin; four + 4 <= to_.entries_.size(); four += 4) {
                store_by_fours(&to_.entries_[four]);
            }
        }
        to_.starts_.push_back(stored_in_panel());
    }

    // Point the panels at the arrays, which from now on stay where they are.
    void finish() {
        for (std::size_t number = 0; number < places_.size(); ++number) {
            Panel& panel = to_.panels_[number];
            const Places& place = places_[number];
            const bool dense = weights_.kind == WeightsKind::dense;
            panel.starts = dense ? nullptr : to_.starts_.data() + place.starts;
            panel.entries = to_.entries_.data() + place.entries;
            panel.offsets = to_.offsets_.data() + place.offsets;
            panel.values = to_.values_.data() + place.values;
        }
    }

  private:
    struct Places {
        std::size_t starts, entries, offsets, values;
    };

    std::int32_t stored_in_panel() const {
        const Places& place = places_.back();
        return static_cast<std::int32_t>(to_.blocks_ ? to_.offsets_.size() - place.offsets
                                                     : to_.entries_.size() - place.entries);
    }

    // All rows have the same offsets, which are kept once.
    void add_dense(const Panel& panel, std::int64_t from, std::int64_t end) {
        for (std::int64_t column = from; column < end; ++column) {
            to_.offsets_.push_back(offset_(panel.first_row, column));
        }
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

    void add_row(std::int64_t row, std::int64_t group, std::int64_t from, std::int64_t end) {
        const auto& indices = weights_.indices;
        const auto first = indices.begin() + weights_.starts[at(group)];
        const auto last = indices.begin() + weights_.starts[at(group + 1)];
        for (auto index = std::lower_bound(first, last, from); index < last && *index < end;
             ++index) {
            const std::int32_t offset = offset_(row, *index);
            const std::int64_t number = index - indices.begin();
            if (!to_.blocks_) {
                to_.entries_.push_back({weights_.values[at(number)], offset});
                continue;
            }
            to_.offsets_.push_back(offset);
            const auto values = weights_.values.begin() + block_rows * number;
            to_.values_.insert(to_.values_.end(), values, values + block_rows);
        }
    }

    PackedMatrix& to_;
    const Weights& weights_;
    const OffsetOf& offset_;
    std::vector<Places> places_;
};

PackedMatrix::PackedMatrix(const Weights& weights, std::int64_t groups, const Cut& cut,
                           const OffsetOf& offset) {
    const bool spread = weights.kind == WeightsKind::dense && groups > 1;
    const Weights indexed = spread ? with_indices(weights, weights.rows / groups % block_rows == 0)
                                   : Weights{};
    const Weights& packed = spread ? indexed : weights;
    blocks_ = packed.kind != WeightsKind::sparse;
    Packer packer(*this, packed, offset);
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
    packer.finish();
}

}  // namespace gossamer
