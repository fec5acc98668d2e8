#include "javascript.h"

#include <cmath>

namespace fourierft::javascript {

void check(napi_env env, napi_status status) {
  if (status == napi_ok) return;
  if (status == napi_pending_exception || status == napi_cannot_run_js) throw Interrupted{};
  const napi_extended_error_info* info = nullptr;
  const bool is_known = napi_get_last_error_info(env, &info) == napi_ok && info->error_message != nullptr;
  throw Failure{is_known ? info->error_message : "Node-API: status " + std::to_string(status), "INVALID_OPTION"};
}

napi_value error_of(napi_env env, const Failure& failure) {
  napi_value error = nullptr;
  const napi_value code = failure.code == nullptr ? nullptr : string_of(env, failure.code);
  check(env, napi_create_error(env, code, string_of(env, failure.message()), &error));
  set(env, error, "problem", string_of(env, failure.problem));
  if (!failure.advice.empty()) set(env, error, "advice", string_of(env, failure.advice));
  if (!failure.tensor.empty()) set(env, error, "tensor", string_of(env, failure.tensor));
  return error;
}

void throw_in(napi_env env, const Failure& failure) {
  try {
    check(env, napi_throw(env, error_of(env, failure)));
  } catch (const Interrupted&) {
  } catch (const Failure&) {
  }
}

napi_value take_exception(napi_env env) {
  bool is_pending = false;
  check(env, napi_is_exception_pending(env, &is_pending));
  if (!is_pending) throw Interrupted{};
  napi_value exception = nullptr;
  check(env, napi_get_and_clear_last_exception(env, &exception));
  return exception;
}

napi_value string_of(napi_env env, const std::string& text) {
  napi_value result = nullptr;
  check(env, napi_create_string_utf8(env, text.data(), text.size(), &result));
  return result;
}

napi_value number_of(napi_env env, double value) {
  napi_value result = nullptr;
  check(env, napi_create_double(env, value, &result));
  return result;
}

napi_value numbers_of(napi_env env, const std::vector<int64_t>& values) {
  const napi_value array = array_of(env, values.size());
  for (size_t i = 0; i < values.size(); i++) set(env, array, i, number_of(env, static_cast<double>(values[i])));
  return array;
}

napi_value array_of(napi_env env, size_t length) {
  napi_value array = nullptr;
  check(env, napi_create_array_with_length(env, length, &array));
  return array;
}

napi_value object_of(napi_env env) {
  napi_value object = nullptr;
  check(env, napi_create_object(env, &object));
  return object;
}

void set(napi_env env, napi_value array, size_t index, napi_value value) {
  check(env, napi_set_element(env, array, static_cast<uint32_t>(index), value));
}

void set(napi_env env, napi_value object, const char* name, napi_value value) {
  check(env, napi_set_named_property(env, object, name, value));
}

napi_value array_buffer_of(napi_env env, size_t bytes, void*& data) {
  napi_value global = nullptr, buffer = nullptr;
  check(env, napi_get_global(env, &global));
  const napi_value size = number_of(env, static_cast<double>(bytes));
  const napi_status status = napi_new_instance(env, property(env, global, "ArrayBuffer"), 1, &size, &buffer);
  if (status == napi_pending_exception) {
    take_exception(env);
    throw Failure{"not enough memory for " + std::to_string(bytes) + " bytes", "UNSUPPORTED"};
  }
  check(env, status);
  size_t found = 0;
  check(env, napi_get_arraybuffer_info(env, buffer, &data, &found));
  if (found != bytes) throw Failure{"not enough memory for " + std::to_string(bytes) + " bytes", "UNSUPPORTED"};
  return buffer;
}

napi_valuetype type_of(napi_env env, napi_value value) {
  napi_valuetype type = napi_undefined;
  check(env, napi_typeof(env, value, &type));
  return type;
}

bool is_absent(napi_env env, napi_value value) {
  const napi_valuetype type = type_of(env, value);
  return type == napi_undefined || type == napi_null;
}

napi_value property(napi_env env, napi_value object, const char* name) {
  napi_value value = nullptr;
  check(env, napi_get_named_property(env, object, name, &value));
  return value;
}

napi_value element(napi_env env, napi_value array, uint32_t index) {
  napi_value value = nullptr;
  check(env, napi_get_element(env, array, index, &value));
  return value;
}

uint32_t length_of(napi_env env, napi_value array) {
  bool is_array = false;
  check(env, napi_is_array(env, array, &is_array));
  if (!is_array) throw Failure{"expected an array", "INVALID_OPTION"};
  uint32_t length = 0;
  check(env, napi_get_array_length(env, array, &length));
  return length;
}

std::string text(napi_env env, napi_value value) {
  if (type_of(env, value) != napi_string) throw Failure{"expected a string", "INVALID_OPTION"};
  size_t length = 0;
  check(env, napi_get_value_string_utf8(env, value, nullptr, 0, &length));
  std::string result(length, '\0');
  check(env, napi_get_value_string_utf8(env, value, result.data(), length + 1, &length));
  if (result.find('\0') != std::string::npos) throw Failure{"expected a string without NUL characters", "INVALID_OPTION"};
  return result;
}

std::vector<std::string> texts(napi_env env, napi_value array) {
  // Memory is not reserved by the length, because a sparse array can have any length.
  std::vector<std::string> result;
  const uint32_t length = length_of(env, array);
  for (uint32_t i = 0; i < length; i++) result.push_back(text(env, element(env, array, i)));
  return result;
}

int64_t integer(napi_env env, napi_value value, const char* name, int64_t minimum, int64_t maximum) {
  double number = 0;
  const bool is_number = type_of(env, value) == napi_number;
  if (is_number) check(env, napi_get_value_double(env, value, &number));
  // Both bounds are exact as doubles: they are within 2^53.
  if (!is_number || !(number >= static_cast<double>(minimum) && number <= static_cast<double>(maximum)) || number != std::floor(number))
    throw Failure{std::string(name) + ": expected an integer of " + std::to_string(minimum) + " to " + std::to_string(maximum) +
                      (is_number ? "; received " + std::to_string(number) : ""),
                  "INVALID_OPTION"};
  return static_cast<int64_t>(number);
}

bool boolean(napi_env env, napi_value value, const char* name) {
  if (type_of(env, value) != napi_boolean) throw Failure{std::string(name) + ": expected a boolean", "INVALID_OPTION"};
  bool result = false;
  check(env, napi_get_value_bool(env, value, &result));
  return result;
}

TypedArray::TypedArray(napi_env env, napi_value value) {
  bool is_array = false, is_buffer = false;
  check(env, napi_is_typedarray(env, value, &is_array));
  if (!is_array) throw Failure{"expected a typed array", "INVALID_OPTION"};
  napi_value buffer = nullptr;
  // Versions of Node that do not know the array's type leave `type` unset.
  type = static_cast<napi_typedarray_type>(-1);
  check(env, napi_get_typedarray_info(env, value, &type, &length, &data, &buffer, nullptr));
  constexpr size_t widths[] = {1, 1, 1, 2, 2, 4, 4, 4, 8, 8, 8, 2};  // napi_typedarray_type
  if (type < 0 || type >= sizeof widths / sizeof *widths) throw Failure{"expected a typed array of a known type", "INVALID_OPTION"};
  bytes = length * widths[type];
  check(env, napi_is_arraybuffer(env, buffer, &is_buffer));
  is_shared = !is_buffer;
}

}  // namespace fourierft::javascript
