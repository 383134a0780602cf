#include "single/steps.hpp"

#include <algorithm>
#include <functional>
#include <vector>

#include "core/threads.hpp"

namespace gossamer::single {

Range Worker::part_by_cost(const std::vector<std::int64_t>& starts) const {
    constexpr std::int64_t each = 4;
    const auto count = static_cast<std::int64_t>(starts.size()) - 1;
    const std::int64_t whole = starts.back() + each * count;
    const auto cut = [&](std::int64_t share) {
        const std::int64_t wanted = whole * share / members;
        std::int64_t first = 0;
        std::int64_t last = count;
        while (first < last) {
            const std::int64_t middle = (first + last) / 2;
            if (starts[middle] + each * middle < wanted)
                first = middle + 1;
            else
                last = middle;
        }
        return first;
    };
    return {cut(member), cut(member + 1)};
}

void Worker::wait_for_all() const {
    if (members > 1) team->wait_for_all();
}

void copy_plane(const float* from, std::int64_t from_pitch, float* to, std::int64_t to_pitch,
                std::int64_t height, std::int64_t width) {
    for (std::int64_t row = 0; row < height; ++row)
        std::copy_n(from + row * from_pitch, width, to + row * to_pitch);
}

std::vector<float> with_slack(std::vector<float> numbers) {
    if (!numbers.empty()) numbers.resize(numbers.size() + slack, 0.0f);
    return numbers;
}

namespace {

// A layer that is prepared for values wherever they lie.
class ViewStep final : public Step {
  public:
    ViewStep(const Site& site, const Layer& layer)
        : prepared_(layer.prepare(site.set, false)), output_(site.output()), shared_(site.shared) {
        for (std::size_t which = 0; which < layer.reads.size(); ++which)
            inputs_.push_back(site.read(which));
        row_room_ = prepared_.over_rows ? inputs_[0].width + slack : 0;
    }

    double nanoseconds() const override {
        return prepared_.nanoseconds *
               static_cast<double>(output_.channels * output_.height * output_.width);
    }
    std::int64_t room() const override { return output_.channels * row_room_; }

    void run(const Worker& worker) const noexcept override {
        const Range channels = worker.part(output_.channels);
        if (output_.padded()) {
            const auto clear = prepared_.over_rows ? clear_edges : clear_around;
            for (std::int64_t channel = channels.begin; channel < channels.end; ++channel)
                clear(output_, worker.scratch, channel);
            if (prepared_.by_rows) worker.wait_for_all();
        }
        run_for(worker, output_.view(worker.scratch));
    }
    void run_to(const Worker& worker, float* output) const noexcept override {
        const std::int64_t plane = output_.height * output_.width;
        run_for(worker, {output, plane, output_.width, 1, output_.channels, output_.height,
                         output_.width, plane});
    }
    bool gives() const override { return prepared_.writes_inside; }

  private:
    void run_for(const Worker& worker, const View& output) const noexcept {
        const auto read = [&](std::size_t which) { return inputs_[which].view(worker.scratch); };
        const Range channels = worker.part(output_.channels);
        // By reference, for which a std::function needs no memory: nothing here may throw.
        prepared_.run({std::cref(read), output,
                       prepared_.by_rows ? worker.part(output_.height) : channels,
                       worker.scratch + shared_ + channels.begin * row_room_});
    }

    Prepared prepared_;
    std::vector<Layout> inputs_;
    Layout output_;
    std::int64_t shared_;
    std::int64_t row_room_;
};

}  // namespace
}  // namespace gossamer::single

namespace gossamer {

std::unique_ptr<single::Step> Layer::make_single(const single::Site& site) const {
    return std::make_unique<single::ViewStep>(site, *this);
}

}  // namespace gossamer
