#include "training/planes.hpp"

#include <algorithm>
#include <set>

namespace gossamer::training {

std::int64_t Axis::outputs() const {
    const std::int64_t room = image + before + after - dilation * (kernel - 1) - 1;
    return room < 0 ? 0 : room / stride + 1;
}

Phases::Phases(const Axis& axis) : axis_(axis), outputs_(axis.outputs()) {
    std::set<std::int64_t> offsets;
    for (std::int64_t tap = 0; tap < axis.kernel; ++tap)
        offsets.insert(tap * axis.dilation % axis.stride);
    offsets_.assign(offsets.begin(), offsets.end());
    begin_ = outputs_ + most_shift();
    end_ = 0;
    for (std::int64_t phase = 0; phase < count(); ++phase) {
        const Range of = filled(phase);
        begin_ = std::min(begin_, of.begin);
        end_ = std::max(end_, of.end);
    }
}

std::int64_t Phases::phase_of(std::int64_t tap) const {
    const auto found =
        std::lower_bound(offsets_.begin(), offsets_.end(), tap * axis_.dilation % axis_.stride);
    return found - offsets_.begin();
}

Range Phases::filled(std::int64_t phase) const {
    // Place p holds number stride * p + offset - before of the image.
    const std::int64_t from = axis_.before - offsets_[static_cast<std::size_t>(phase)];
    const auto places = [&](std::int64_t numbers) {
        return numbers <= 0 ? 0 : (numbers + axis_.stride - 1) / axis_.stride;
    };
    const std::int64_t end = std::min(places(from + axis_.image), outputs_ + most_shift());
    return {std::min(places(from), end), end};
}

std::int64_t Phases::image_at(std::int64_t phase, std::int64_t place) const {
    return axis_.stride * place + offsets_[static_cast<std::size_t>(phase)] - axis_.before;
}

std::int64_t Phases::pitch() const {
    return std::max({end_, outputs_, outputs_ + most_shift() - begin_});
}

bool Phases::whole() const {
    std::int64_t there = 0;
    for (std::int64_t phase = 0; phase < count(); ++phase) {
        const Range of = filled(phase);
        there += of.end - of.begin;
    }
    return there == axis_.image;
}

}  // namespace gossamer::training
