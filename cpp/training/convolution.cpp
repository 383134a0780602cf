#include "training/convolution.hpp"

#include <algorithm>
#include <stdexcept>

#include "core/threads.hpp"
#include "training/workspace.hpp"

namespace gossamer::training {

namespace {

// Into how many parts, at most, the images are cut whose gradients of the weights are added up one
// after the other, so that sums are the same with any number of threads.
constexpr std::int64_t most_parts = 32;

// An odd number of cache lines, so that the same place of all planes is not in the same set of the
// first cache.
std::int64_t plane_of(std::int64_t floats) { return (floats + 31) / 32 * 32 + 16; }

std::int32_t narrow(std::int64_t number) {
    if (number > INT32_MAX || number < INT32_MIN)
        throw std::overflow_error("images of more than 2^31 - 1 numbers");
    return static_cast<std::int32_t>(number);
}

}  // namespace

// Some images side by side in planes.
struct Convolution::Strip {
    std::int64_t first;
    std::int64_t images;
};

Convolution::Convolution(const std::int64_t* positions, std::int64_t count,
                         const Channels& channels, const Axis& vertical, const Axis& horizontal,
                         InstructionSet set)
    : channels_(channels),
      vertical_(vertical),
      horizontal_(horizontal),
      rows_(vertical),
      columns_(horizontal),
      loops_(training_loops(set)) {
    if (rows_.outputs() < 1 || columns_.outputs() < 1)
        throw std::invalid_argument("images must not be smaller than the kernel");
    const std::int64_t taps = vertical.kernel * horizontal.kernel;
    check_positions(positions, count, channels.outputs * channels.inputs * taps);
    narrow(count);
    pitch_ = columns_.pitch();
    apart_ = rows_.pitch() * pitch_;
    images_in_strip_ = (tile_vectors * loops_.width + apart_ - 1) / apart_;
    const std::int64_t before = (images_in_strip_ - 1) * apart_, tail = loops_.width;
    const std::int64_t reach = rows_.most_shift() * pitch_ + columns_.most_shift();
    lead_ = (reach + 15) / 16 * 16;
    const std::int64_t longest = std::max(rows_.outputs(), rows_.end()) * pitch_;
    input_plane_ = plane_of(before + longest + reach + tail);
    output_plane_ = plane_of(lead_ + before + longest + tail);
    narrow(std::max(planes() * input_plane_, channels.outputs * output_plane_));

    const auto size = static_cast<std::size_t>(count);
    std::vector<std::int32_t> output_of(size), plane_of_each(size), shift_of(size), leads(size);
    for (std::size_t at = 0; at < size; ++at) {
        const std::int64_t x = positions[at] % horizontal.kernel;
        const std::int64_t y = positions[at] / horizontal.kernel % vertical.kernel;
        const std::int64_t output = positions[at] / taps / channels.inputs;
        const std::int64_t group = output / (channels.outputs / channels.groups);
        const std::int64_t channel =
            group * channels.inputs + positions[at] / taps % channels.inputs;
        const std::int64_t plane =
            (channel * rows_.count() + rows_.phase_of(y)) * columns_.count() + columns_.phase_of(x);
        output_of[at] = narrow(output);
        plane_of_each[at] = narrow(plane);
        shift_of[at] = narrow(rows_.shift_of(y) * pitch_ + columns_.shift_of(x));
        leads[at] = narrow(plane * input_plane_ + shift_of[at]);
    }
    const std::vector<std::int32_t> starts = starts_of(plane_of_each, planes());
    order_ = ordered(plane_of_each, starts);
    std::vector<std::int32_t> back(size);
    for (std::size_t place = 0; place < size; ++place) {
        const auto at = static_cast<std::size_t>(order_[place]);
        back[place] = narrow(output_of[at] * output_plane_ - shift_of[at]);
    }
    by_output_ = whole_rows(starts_of(output_of, channels.outputs), std::move(leads));
    by_plane_ = whole_rows(starts, std::move(back));
}

std::int64_t Convolution::strips(std::int64_t images) const {
    return (images + images_in_strip_ - 1) / images_in_strip_;
}

Convolution::Strip Convolution::strip(std::int64_t number, std::int64_t images) const {
    const std::int64_t first = number * images_in_strip_;
    return {first, std::min(images_in_strip_, images - first)};
}

Range Convolution::outputs_of(const Strip& strip) const {
    return {0, (strip.images - 1) * apart_ + rows_.outputs() * pitch_};
}

Range Convolution::inputs_of(const Strip& strip) const {
    return {rows_.begin() * pitch_, (strip.images - 1) * apart_ + rows_.end() * pitch_};
}

// Calls use(number of the image, its first pixel in the phase, where that stands in the plane of
// the first channel, rows, pixels of a row).
template <class Use>
void Convolution::each_phase(const Strip& strip, const Use& use) const {
    for (std::int64_t image = 0; image < strip.images; ++image) {
        for (std::int64_t down = 0; down < rows_.count(); ++down) {
            for (std::int64_t along = 0; along < columns_.count(); ++along) {
                const Range rows = rows_.filled(down), pixels = columns_.filled(along);
                if (rows.begin == rows.end || pixels.begin == pixels.end) continue;
                use(strip.first + image,
                    rows_.image_at(down, rows.begin) * horizontal_.image +
                        columns_.image_at(along, pixels.begin),
                    (down * columns_.count() + along) * input_plane_ + image * apart_ +
                        rows.begin * pitch_ + pixels.begin,
                    rows.end - rows.begin, pixels.end - pixels.begin);
            }
        }
    }
}

void Convolution::take(const Images<const float>& images, const Strip& strip, float* planes) const {
    const std::int64_t channels = channels_in(), size = vertical_.image * horizontal_.image;
    const std::ptrdiff_t row = vertical_.stride * horizontal_.image;
    const std::ptrdiff_t apart = rows_.count() * columns_.count() * input_plane_;
    each_phase(strip, [&](auto image, auto pixel, auto place, auto rows, auto pixels) {
        const float* const from = images.data + image * channels * size;
        if (images.channels_last) {
            const Spacing spacing{row * channels, horizontal_.stride * channels};
            return loops_.part(from + pixel * channels, spacing, rows, pixels, channels,
                               planes + place, pitch_, apart);
        }
        for (std::int64_t channel = 0; channel < channels; ++channel)
            loops_.copy(from + channel * size + pixel, {row, horizontal_.stride}, rows, pixels,
                        planes + channel * apart + place, {pitch_, 1});
    });
}

void Convolution::put(const float* planes, const Strip& strip, const Images<float>& images) const {
    const std::int64_t channels = channels_in(), size = vertical_.image * horizontal_.image;
    const std::ptrdiff_t row = vertical_.stride * horizontal_.image;
    const std::ptrdiff_t apart = rows_.count() * columns_.count() * input_plane_;
    if (!rows_.whole() || !columns_.whole())
        std::fill_n(images.data + strip.first * channels * size, strip.images * channels * size,
                    0.0f);
    each_phase(strip, [&](auto image, auto pixel, auto place, auto rows, auto pixels) {
        float* const to = images.data + image * channels * size;
        if (images.channels_last) {
            const Spacing spacing{row * channels, horizontal_.stride * channels};
            return loops_.join(planes + place, pitch_, apart, rows, pixels, channels,
                               to + pixel * channels, spacing);
        }
        for (std::int64_t channel = 0; channel < channels; ++channel)
            loops_.copy(planes + channel * apart + place, {pitch_, 1}, rows, pixels,
                        to + channel * size + pixel, {row, horizontal_.stride});
    });
}

void Convolution::take_gradient(const Images<const float>& gradient, const Strip& strip,
                                float* planes) const {
    const std::int64_t height = rows_.outputs(), width = columns_.outputs();
    const std::int64_t channels = channels_.outputs, size = channels * height * width;
    for (std::int64_t image = 0; image < strip.images; ++image) {
        const float* const from = gradient.data + (strip.first + image) * size;
        float* const to = planes + image * apart_;
        if (gradient.channels_last) {
            loops_.part(from, {width * channels, channels}, height, width, channels, to, pitch_,
                        output_plane_);
            continue;
        }
        for (std::int64_t channel = 0; channel < channels; ++channel)
            loops_.copy(from + channel * height * width, {width, 1}, height, width,
                        to + channel * output_plane_, {pitch_, 1});
    }
}

void Convolution::put_outputs(const float* planes, const Strip& strip,
                              const Images<float>& outputs) const {
    const std::int64_t height = rows_.outputs(), width = columns_.outputs();
    const std::int64_t channels = channels_.outputs, size = channels * height * width;
    for (std::int64_t image = 0; image < strip.images; ++image) {
        const float* const from = planes + image * apart_;
        float* const to = outputs.data + (strip.first + image) * size;
        if (outputs.channels_last) {
            loops_.join(from, pitch_, output_plane_, height, width, channels, to,
                        {width * channels, channels});
            continue;
        }
        for (std::int64_t channel = 0; channel < channels; ++channel)
            loops_.copy(from + channel * output_plane_, {pitch_, 1}, height, width,
                        to + channel * height * width, {width, 1});
    }
}

void Convolution::forward(const float* values, const float* bias, const Images<const float>& inputs,
                          std::int64_t images, float* outputs, int threads) const {
    const std::int64_t height = rows_.outputs(), width = columns_.outputs();
    const std::int64_t taken = planes() * input_plane_, made = channels_.outputs * output_plane_;
    Team team(members_for(count() * images * height * width / loops_.width, threads));
    Workspace workspace(team.size() * (taken + made));
    float* const memory = workspace.take(team.size() * (taken + made));
    const Part part = by_output_.part(0, {0, channels_.outputs});
    team.run([&](int member) {
        const int members = team.gather(member, patience);
        float* const from = memory + member * (taken + made);
        float* const to = from + taken;
        std::fill_n(from, taken, 0.0f);
        const std::int64_t all = strips(images);
        for (std::int64_t number = all * member / members; number < all * (member + 1) / members;
             ++number) {
            const Strip of = strip(number, images);
            take(inputs, of, from);
            const Range range = outputs_of(of);
            const Tiles tiles(range.end - range.begin, loops_.width);
            for (std::int64_t tile = 0; tile < tiles.count(); ++tile) {
                const Range vectors = tiles.vectors_of(tile);
                const std::int64_t at = vectors.begin * loops_.width;
                loops_.multiply[vectors.end - vectors.begin](part, values, {from + at, 1}, bias,
                                                             false, {to + at, output_plane_});
            }
            put_outputs(to, of, {outputs, inputs.channels_last});
        }
    });
}

// What one strip adds to the gradients of the values and the bias, or sets them to, and the
// gradient of its inputs, in planes.
void Convolution::add_gradients(const float* values, const Strip& strip, bool adds,
                                const float* inputs, const float* gradient,
                                const Gradients& to) const {
    // Nothing writes to these tiles.
    const auto tile = [](const float* data, std::int64_t apart) {
        return Tile{const_cast<float*>(data), apart};
    };
    const Range outputs{0, channels_.outputs};
    const float* const begin = gradient + lead_;
    const Range range = outputs_of(strip);
    const Tiles over(range.end - range.begin, loops_.width);
    for (std::int64_t number = 0; number < over.count(); ++number) {
        const Range of = over.vectors_of(number);
        const std::int64_t vectors = of.end - of.begin, at = of.begin * loops_.width;
        const bool more = adds || number > 0;
        const Tile coming = tile(begin + at, output_plane_);
        if (to.values && !to.inputs)
            loops_.sample[vectors](by_output_.part(0, outputs), coming, tile(inputs + at, 1), more,
                                   to.values);
        if (to.bias) loops_.total[vectors](outputs, coming, more, to.bias);
    }
    if (!to.inputs) return;
    const Part part = by_plane_.part(0, {0, planes()});
    const Range wanted = inputs_of(strip);
    // Outputs may see nothing but the zeros around the images.
    if (wanted.begin >= wanted.end && to.values && !adds) std::fill_n(to.values, count(), 0.0f);
    const Tiles tiles(wanted.end - wanted.begin, loops_.width);
    for (std::int64_t number = 0; number < tiles.count(); ++number) {
        const Range of = tiles.vectors_of(number);
        const std::int64_t at = wanted.begin + of.begin * loops_.width;
        loops_.differentiate[of.end - of.begin](
            part, order_.data(), values, tile(begin + at, 1), tile(inputs + at, input_plane_),
            false, adds || number > 0, {to.inputs + at, input_plane_}, to.values);
    }
}

void Convolution::backward(const float* values, const Images<const float>& inputs,
                           const Images<const float>& gradient, std::int64_t images,
                           const Gradients& wanted, int threads) const {
    const std::int64_t taken = planes() * input_plane_, coming = channels_.outputs * output_plane_;
    const std::int64_t sums = wanted.bias ? Workspace::rounded(count() + channels_.outputs) : 0;
    const std::int64_t work = count() * images * rows_.outputs() * columns_.outputs();
    const std::int64_t all = strips(images), parts = std::min(all, most_parts);
    Team team(members_for(2 * work / loops_.width,
                          static_cast<int>(std::min<std::int64_t>(threads, parts))));
    const std::int64_t each = 2 * taken + coming + sums;
    Workspace workspace(team.size() * each);
    float* const memory = workspace.take(team.size() * each);
    team.run([&](int member) {
        const int members = team.gather(member, patience);
        float* const own = memory + member * each;
        float *const from = own + sums, *const of_inputs = from + taken;
        float* const of_outputs = of_inputs + taken;
        const Gradients to{wanted.inputs ? of_inputs : nullptr, sums ? own : nullptr,
                           sums ? own + count() : nullptr};
        std::fill_n(from, taken, 0.0f);
        std::fill_n(of_outputs, coming, 0.0f);
        for (std::int64_t round = 0; round < parts; round += members) {
            const std::int64_t now = std::min<std::int64_t>(members, parts - round);
            const std::int64_t part = round + member;
            const Range mine =
                member < now ? Range{all * part / parts, all * (part + 1) / parts} : Range{0, 0};
            for (std::int64_t number = mine.begin; number < mine.end; ++number) {
                const Strip of = strip(number, images);
                if (of.images < images_in_strip_) {
                    std::fill_n(of_outputs, coming, 0.0f);  // what an image before has left
                    std::fill_n(from, taken, 0.0f);
                }
                if (sums) take(inputs, of, from);
                take_gradient(gradient, of, of_outputs + lead_);
                add_gradients(values, of, number > mine.begin, from, of_outputs, to);
                if (wanted.inputs) put(of_inputs, of, {wanted.inputs, inputs.channels_last});
            }
            if (!sums) continue;
            team.wait_for_all();
            const auto gather = [&](float* total, std::int64_t offset, std::int64_t size) {
                for (std::int64_t i = size * member / members; i < size * (member + 1) / members;
                     ++i) {
                    float sum = round > 0 ? total[i] : memory[offset + i];
                    for (std::int64_t other = round > 0 ? 0 : 1; other < now; ++other)
                        sum += memory[other * each + offset + i];
                    total[i] = sum;
                }
            };
            gather(wanted.values, 0, count());
            gather(wanted.bias, count(), channels_.outputs);
            team.wait_for_all();
        }
    });
}

}  // namespace gossamer::training
