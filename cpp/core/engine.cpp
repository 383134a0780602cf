#include "core/engine.hpp"

#include <algorithm>
#include <atomic>
#include <utility>
#include <vector>

#include "core/leading.hpp"
#include "core/threads.hpp"
#include "ops/product.hpp"

namespace gossamer {

namespace {

// So many examples are computed one after the other, since that takes less time than a whole
// granule of them side by side. Measured on networks of study sizes, 90% of their weights pruned:
// a granule of 8 takes as long as 2 to 4 of them, one of 16 as 4 to 8.
std::int64_t most_single(std::int64_t granule) {
    return granule < 8 ? granule / 2 : granule * 3 / 8;
}

// The same where the first layers are computed one after the other anyway, as measured on a
// ResNet-50: the others take about as long either way.
std::int64_t most_single_behind(std::int64_t granule) { return granule * 3 / 4; }

// Batches of fewer multiplications (some 50 microseconds) are left to one thread.
constexpr double shared_multiplications = 2e6;

double multiplications(const Plan& plan) {
    double sum = 0.0;
    for (const auto& layer : plan.layers) {
        const Product* product = layer->product();
        if (!product) continue;
        sum += static_cast<double>(product->weights.values.size()) *
               static_cast<double>(product->sums.height * product->sums.width);
    }
    return sum;
}

// None where examples side by side would take more memory than this, for each thread: one after the
// other they take less, and are as quick where a single one fills the caches by far.
constexpr std::size_t largest_batched_scratch = std::size_t{1} << 29;  // floats

// `leading`: so many layers are computed one after the other.
std::unique_ptr<Executor> batched_executor(const Plan& plan, InstructionSet set,
                                           std::size_t leading) {
    for (const auto& layer : plan.layers)
        if (layer->one_by_one()) return nullptr;
    try {
        auto executor =
            leading > 0 ? make_led_executor(plan, leading, set) : make_batched_executor(plan, set);
        if (executor->scratch_floats() <= largest_batched_scratch) return executor;
    } catch (const TooLarge&) {
    }
    return nullptr;
}

}  // namespace

Engine::Engine(Plan plan, InstructionSet set) : set_(set) {
    check(plan);
    for (std::size_t value = 0; value < plan.inputs; ++value)
        input_sizes_.push_back(plan.shapes[value].size());
    for (const int value : plan.outputs)
        output_sizes_.push_back(plan.shapes[static_cast<std::size_t>(value)].size());
    layers_ = plan.layers.size();
    multiplications_ = multiplications(plan);
    // Images of one example lie in tiles where vectors are of 16.
    leading_ = set == InstructionSet::avx512 ? best_leading(plan) : 0;
    batched_ = batched_executor(plan, set, leading_);
    if (!batched_) leading_ = layers_;
    single_ = make_single_executor(plan, set);
    batched_scratch_.emplace(batched_ ? batched_->scratch_floats() : 0);
    single_scratch_.emplace(single_->scratch_floats());
}

void Engine::run(const Examples& examples, int threads, double* layer_seconds) const {
    const std::int64_t count = examples.count;
    if (count <= 0) return;
    Team team(threads);
    if (!batched_) return run_single(examples, team, layer_seconds);
    const std::int64_t granule = batched_->granule();
    std::int64_t alone = count % granule;
    if (alone > (leading_ > 0 ? most_single_behind(granule) : most_single(granule))) alone = 0;
    const std::int64_t together = count - alone;
    if (together > 0) run_batched(examples.part(0, together), team, layer_seconds);
    if (alone > 0) run_single(examples.part(together, alone), team, layer_seconds);
}

void Engine::run_batched(const Examples& examples, Team& team, double* layer_seconds) const {
    const std::int64_t count = examples.count;
    const std::int64_t granule = batched_->granule();
    const bool shared = multiplications_ * static_cast<double>(count) >= shared_multiplications;
    // No member is to be idle while another has more than it must.
    const std::int64_t share =
        divided_up(divided_up(count, granule), shared ? team.size() : 1) * granule;
    const std::int64_t lanes = std::min(batched_->lanes(), share);
    const std::int64_t tiles = divided_up(count, lanes);
    const auto members =
        shared ? static_cast<std::size_t>(std::min<std::int64_t>(team.size(), tiles)) : 1;
    std::vector<Scratch> scratch;
    while (scratch.size() < members) scratch.push_back(batched_scratch_->take());
    std::vector<double> seconds(layer_seconds ? members * layers_ : 0);
    Team alone(1);
    std::atomic<std::int64_t> next{0};
    const auto work = [&](int number) {
        const auto member = static_cast<std::size_t>(number);
        if (member >= members) return;
        for (std::int64_t tile; (tile = next.fetch_add(1)) < tiles;) {
            const std::int64_t begin = tile * lanes;
            batched_->run(examples.part(begin, std::min(lanes, count - begin)),
                          scratch[member].get(), alone,
                          layer_seconds ? seconds.data() + member * layers_ : nullptr);
        }
    };
    members == 1 ? work(0) : team.run(work);
    for (std::size_t at = 0; at < seconds.size(); ++at)
        layer_seconds[at % layers_] += seconds[at] / static_cast<double>(members);
    for (Scratch& used : scratch) batched_scratch_->keep(std::move(used));
}

void Engine::run_single(const Examples& examples, Team& team, double* layer_seconds) const {
    Scratch scratch = single_scratch_->take();
    for (std::int64_t example = 0; example < examples.count; ++example)
        single_->run(examples.part(example, 1), scratch.get(), team, layer_seconds);
    single_scratch_->keep(std::move(scratch));
}

}  // namespace gossamer
