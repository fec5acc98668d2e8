// Access to JavaScript values. The status of every call is checked, because an environment can stop between any two calls, when a worker is
// terminated. After that, nearly all calls fail and set no result.
#pragma once

#define NAPI_VERSION 8
#include <node_api.h>

#include <cstdint>
#include <new>
#include <string>
#include <vector>

#include "failure.h"

namespace fourierft::javascript {

// Thrown if JavaScript has a pending exception or its environment stops, so the addon must not throw an error of its own.
struct Interrupted {};

// Throws a `Failure` or `Interrupted` if the call failed.
void check(napi_env env, napi_status status);

// Makes a JavaScript error with the fields `code`, `problem` and, if not empty, `advice` and `tensor`.
napi_value error_of(napi_env env, const Failure& failure);

// Takes and clears JavaScript's pending exception; throws `Interrupted` if there is none.
napi_value take_exception(napi_env env);

napi_value string_of(napi_env env, const std::string& text);
napi_value number_of(napi_env env, double value);  // exact for integers up to 2^53
napi_value numbers_of(napi_env env, const std::vector<int64_t>& values);
napi_value array_of(napi_env env, size_t length);
napi_value object_of(napi_env env);
void set(napi_env env, napi_value array, size_t index, napi_value value);
void set(napi_env env, napi_value object, const char* name, napi_value value);

// Makes an ArrayBuffer of zeros. Throws if there is not enough memory: Node's own function would end the process.
napi_value array_buffer_of(napi_env env, size_t bytes, void*& data);

napi_valuetype type_of(napi_env env, napi_value value);
bool is_absent(napi_env env, napi_value value);  // undefined or null
napi_value property(napi_env env, napi_value object, const char* name);
napi_value element(napi_env env, napi_value array, uint32_t index);
uint32_t length_of(napi_env env, napi_value array);

// Reads a string. Throws if it contains NUL characters, because C code would read it only up to the first of them.
std::string text(napi_env env, napi_value value);
std::vector<std::string> texts(napi_env env, napi_value array);

// Reads an integer of minimum ... maximum; `name` is used in the error. Node's own functions take larger numbers modulo 2^32, and NaN as 0.
int64_t integer(napi_env env, napi_value value, const char* name, int64_t minimum, int64_t maximum);
bool boolean(napi_env env, napi_value value, const char* name);

constexpr int64_t kMaxSafeInteger = (int64_t{1} << 53) - 1;  // Number.MAX_SAFE_INTEGER

// The present state of a typed array. When JavaScript runs again it can resize the array's buffer, transfer it or write to it, so the memory
// must not be used later or by another thread. Shared memory is the exception: it can neither be detached nor shrink while it is referenced.
struct TypedArray {
  napi_typedarray_type type;
  size_t length;  // in elements
  size_t bytes;
  void* data;
  bool is_shared;

  TypedArray(napi_env env, napi_value value);
};

// Throws the error in JavaScript. Does nothing if the environment stops.
void throw_in(napi_env env, const Failure& failure);

// Runs `body(arguments)` for a function of N arguments. A C++ exception becomes JavaScript's exception.
template <size_t N, class Body>
napi_value guarded(napi_env env, napi_callback_info info, const Body& body) {
  try {
    napi_value values[N == 0 ? 1 : N];
    size_t count = N;
    check(env, napi_get_cb_info(env, info, &count, values, nullptr, nullptr));
    if (count != N) throw Failure{"expected " + std::to_string(N) + " arguments", "INVALID_OPTION"};
    return body(values);
  } catch (const Interrupted&) {
  } catch (const Failure& failure) {
    throw_in(env, failure);
  } catch (const std::bad_alloc&) {
    throw_in(env, {"not enough memory", "UNSUPPORTED"});
  } catch (const std::exception& error) {
    throw_in(env, {error.what()});
  }
  return nullptr;
}

}  // namespace fourierft::javascript
