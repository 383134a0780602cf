// What an operator is to everything else: a class of layers with a name.
//
// It lies in one file of this folder. It must say what it takes (its constructor), check it and
// tell the shape of what it gives (`check`), and do it in one of these ways:
// - `run` computes one example, wherever its numbers lie. That is enough for both executors.
// - `prepare` makes it ready for examples that lie side by side, or for one whose channels and rows
//   several threads share, with loops that are compiled for each instruction set (ops/loops.hpp).
// - `make_batched` and `make_single` make steps of their own, where it wants to know more.
// One line, GOSSAMER_OPERATOR, makes it known.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "core/plan.hpp"
#include "ops/fields.hpp"

namespace gossamer {

namespace batched {
class Step;
struct Context;
}  // namespace batched

namespace single {
class Step;
struct Site;
}  // namespace single

class Product;

// A value of one example: its axes as in `Shape`, and the floats between neighbours along each.
struct Strided {
    float* data;
    int rank;
    std::int64_t sizes[most_axes];
    std::ptrdiff_t strides[most_axes];

    // How many numbers there are over some of the axes, and where one of them lies.
    std::int64_t count(int begin, int end) const {
        return std::accumulate(sizes + begin, sizes + end, std::int64_t{1}, std::multiplies<>());
    }
    std::ptrdiff_t offset(std::int64_t number, int begin, int end) const {
        std::ptrdiff_t found = 0;
        for (int axis = end; axis-- > begin; number /= sizes[axis])
            found += number % sizes[axis] * strides[axis];
        return found;
    }
};

// One of the examples that lie side by side, as a value of a shape.
Strided of_example(const View& view, const Shape& shape, std::int64_t example);

constexpr std::size_t most_strided = 8;  // values that a `run` reads

// What a prepared layer is to do: a part of the channels or rows of its output.
struct Call {
    std::function<View(std::size_t)> read;  // the values that it reads, where an executor has them
    View output;
    Range part;
    float* room;  // see `Prepared`
};

struct Prepared {
    std::function<void(const Call&)> run;  // must not throw
    double nanoseconds = 0.0;  // about what a number of the output takes one thread of one example
    bool by_rows = false;      // parts are of rows, and not of channels
    // With one example, whether it needs room for a row of what it reads, and itself sets to zero
    // what lies between the rows of its output.
    bool over_rows = false;
    // Whether it writes nothing but the numbers of its output, which may then lie where the caller
    // of the network wants them.
    bool writes_inside = false;
};

class Layer : public std::enable_shared_from_this<Layer> {
  public:
    virtual ~Layer() = default;

    // See to all of its numbers (those of `reads` have been seen to, and `taken` set); return the
    // shape of what it gives.
    virtual Shape check(const Check& check) = 0;

    // How many values it reads; 0: one or more.
    virtual std::size_t arity() const { return 1; }
    // Whether it is an input of the network, which an executor fills in.
    virtual bool enters() const { return false; }
    // Whether it only gives another shape to what it reads.
    virtual bool renames() const { return false; }
    // Whether examples are computed one after the other, as its lanes are filled by one.
    virtual bool one_by_one() const { return false; }
    // Itself, if it is a linear layer or a convolution.
    virtual const Product* product() const { return nullptr; }

    virtual void run(const Strided* inputs, const Strided& output) const;
    virtual Prepared prepare(InstructionSet set, bool side_by_side) const;
    virtual std::unique_ptr<batched::Step> make_batched(const batched::Context& context,
                                                        int number) const;
    virtual std::unique_ptr<single::Step> make_single(const single::Site& site) const;

    std::vector<int> reads;    // numbers of values; a residual comes last
    std::vector<Shape> taken;  // set by `check` of a plan: their shapes,
    Shape given;               //   and that of the output
};

// A layer of the operator of that name. Throws std::invalid_argument where there is none, or where
// it does not take such fields.
std::shared_ptr<Layer> make_layer(const std::string& name, std::vector<int> reads,
                                  std::map<std::string, Field> fields);

// The names of all operators.
std::vector<std::string> operators();

struct Registered {
    Registered(const char* name, std::shared_ptr<Layer> (*make)(Fields&));
};

// `Class` has a constructor that takes what it needs from its `Fields`.
#define GOSSAMER_OPERATOR(name, Class)                                                      \
    static const Registered registered(name, [](Fields& fields) -> std::shared_ptr<Layer> { \
        return std::make_shared<Class>(fields);                                             \
    });

}  // namespace gossamer
