// The same numbers for every example.
#include "ops/layer.hpp"

namespace gossamer {
namespace {

class Constant final : public Layer {
  public:
    explicit Constant(Fields& fields)
        : numbers_(fields.take<Floats>("numbers")), sizes_(fields.take<Sizes>("shape")) {}

    Shape check(const Check& check) override {
        const Shape shape = check.shape(sizes_);
        check.require(shape.size() == static_cast<std::int64_t>(numbers_.size()),
                      "numbers must be as many as its shape holds");
        return shape;
    }

    void run(const Strided*, const Strided& output) const override {
        for (std::size_t at = 0; at < numbers_.size(); ++at)
            output.data[output.offset(static_cast<std::int64_t>(at), 0, output.rank)] =
                numbers_[at];
    }

  private:
    Floats numbers_;
    Sizes sizes_;
};

GOSSAMER_OPERATOR("constant", Constant)

}  // namespace
}  // namespace gossamer
