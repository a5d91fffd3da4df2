// For kernels over rows of floats or of bfloat16: the type once it is known, and the row's work of the widest vectors.

#pragma once

#include "avx2.h"

// Calls f with a number of the type that there is.
template <typename Work>
static inline void of_type(int is_bfloat, Work f) {
    is_bfloat ? f(Bfloat{}) : f(float{});
}

#define OF_WIDTH(name) (has_sixteen() ? sixteen::name<Number> : eight::name<Number>)
#define IN(x) static_cast<const Number*>(x)
#define OUT(x) static_cast<Number*>(x)
