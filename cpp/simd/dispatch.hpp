// Names of what is compiled once for each instruction set.
//
// CMake compiles such a unit once for each, and defines GOSSAMER_INSTRUCTION_SET (its name) and
// GOSSAMER_WIDTH (floats in a vector). The unit exports a single function, which gives a table of
// its loops, under a name of its own (GOSSAMER_EXPORT); everything else in it has internal linkage,
// and it uses nothing of the standard library's templates: a function with external linkage that
// was compiled for AVX-512 could otherwise be the one that the linker keeps for everybody.
#pragma once

#include "core/plain.hpp"

#define GOSSAMER_JOIN(name, set) name##_##set
#define GOSSAMER_NAME_FOR(name, set) GOSSAMER_JOIN(name, set)
#define GOSSAMER_EXPORT(Type, name, ...)          \
    static const Type name##_table = __VA_ARGS__; \
    const Type& GOSSAMER_NAME_FOR(name, GOSSAMER_INSTRUCTION_SET)() { return name##_table; }

// Declares the functions that a unit exports, and `name(set)`, which calls that of one set.
#ifdef GOSSAMER_X86
#define GOSSAMER_DECLARE(Type, name)                               \
    const Type& name##_baseline();                                 \
    const Type& name##_avx2();                                     \
    const Type& name##_avx512();                                   \
    static inline const Type& name(InstructionSet set) {           \
        if (set == InstructionSet::avx512) return name##_avx512(); \
        if (set == InstructionSet::avx2) return name##_avx2();     \
        return name##_baseline();                                  \
    }
#else
#define GOSSAMER_DECLARE(Type, name) \
    const Type& name##_baseline();   \
    static inline const Type& name(InstructionSet) { return name##_baseline(); }
#endif
