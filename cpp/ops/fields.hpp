// What a layer is made of, by name: what its operator asks for, each of the type that it expects.
#pragma once

#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "core/plan.hpp"

namespace gossamer {

using Sizes = std::vector<std::int64_t>;
using Floats = std::vector<float>;
using Field = std::variant<bool, std::int64_t, double, std::string, Sizes, Floats, Weights, Pooling,
                           Epilogue>;

class Fields {
  public:
    Fields(std::string of, std::map<std::string, Field> fields)
        : of_(std::move(of)), fields_(std::move(fields)) {}

    // Throws std::invalid_argument where it is missing or of another type.
    template <class Type>
    Type take(const std::string& name) {
        const auto found = fields_.find(name);
        if (found == fields_.end()) throw std::invalid_argument(of_ + " needs \"" + name + "\"");
        const auto* whole = std::get_if<std::int64_t>(&found->second);
        if (std::is_same_v<Type, double> && whole) found->second = static_cast<double>(*whole);
        Type* const value = std::get_if<Type>(&found->second);
        if (!value)
            throw std::invalid_argument(of_ + ": " + name + " is not of the type that it takes");
        Type taken = std::move(*value);
        fields_.erase(found);
        return taken;
    }

    template <class Type>
    Type take(const std::string& name, Type otherwise) {
        return fields_.count(name) ? take<Type>(name) : std::move(otherwise);
    }

    Pair take_pair(const std::string& name, Pair otherwise = {}) {
        if (!fields_.count(name)) return otherwise;
        const auto sizes = take<Sizes>(name);
        if (sizes.size() != 2)
            throw std::invalid_argument(of_ + ": " + name + " must be two numbers");
        return {sizes[0], sizes[1]};
    }

    // Throws std::invalid_argument where one is left that nobody took.
    void end() const {
        if (fields_.empty()) return;
        throw std::invalid_argument(of_ + " has no field \"" + fields_.begin()->first + "\"");
    }

  private:
    std::string of_;
    std::map<std::string, Field> fields_;
};

}  // namespace gossamer
