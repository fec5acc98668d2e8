// Sessions of ONNX Runtime, their tensors, and the handles by which JavaScript refers to them.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cuda-library.h"
#include "javascript.h"
#include "onnxruntime-api.h"

namespace fourierft::onnxruntime {

constexpr int kDeviceAllocator = 0, kArenaAllocator = 1;  // OrtAllocatorType
constexpr int kDefaultMemory = 0;                         // OrtMemType

using OwnedHandle = std::unique_ptr<void, void (*)(Handle)>;

struct ValueInfo {
  std::string name;
  bool is_tensor = false;
  int type = 0;
  std::vector<int64_t> dims;  // -1: a dynamic dimension, which can have a name
  std::vector<std::string> symbols;
};

struct Session {
  static inline std::atomic<size_t> count{0};  // in the process

  Handle handle = nullptr;
  std::vector<ValueInfo> inputs, outputs;
  const CudaLibrary* cuda = nullptr;  // null: the session is on the CPU
  int device = 0;                     // the number of the CUDA device
  // The description of the device's memory, which is the CPU's with the library that is compiled with host-shim/; null without a device.
  OwnedHandle memory{nullptr, [](Handle) {}};
  Session() { count++; }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  ~Session() {
    if (handle != nullptr) api.ReleaseSession(handle);
    count--;
  }
};

using SharedSession = std::shared_ptr<Session>;

// The bits of one element of an ONNXTensorElementDataType; 0 for types that are not numbers.
inline int bits_of(int type) {
  constexpr int bits[] = {0, 32, 8, 8, 16, 16, 32, 64, 0, 8, 16, 64, 32, 64, 64, 128, 16, 8, 8, 8, 8, 4, 4};
  return type >= 0 && type < static_cast<int>(sizeof bits / sizeof *bits) ? bits[type] : 0;
}

// The type and the dims of a tensor.
struct TensorShape {
  int type = 0;
  std::vector<int64_t> dims;
  size_t count = 0;

  explicit TensorShape(Handle value) {
    Handle info = nullptr;
    check(api.GetTensorTypeAndShape(value, &info));
    const OwnedHandle owned(info, api.ReleaseTensorTypeAndShapeInfo);
    size_t rank = 0;
    check(api.GetTensorElementType(info, &type));
    check(api.GetDimensionsCount(info, &rank));
    check(api.GetTensorShapeElementCount(info, &count));
    dims.resize(rank);
    check(api.GetDimensions(info, dims.data(), rank));
  }
  // 0 for types that are not numbers.
  size_t bytes() const { return (count * static_cast<size_t>(bits_of(type)) + 7) / 8; }
};

// The description of the CPU's memory. One for the process: all memory outside ONNX Runtime has the same description.
inline Handle cpu_memory() {
  static const Handle memory = [] {
    Handle created = nullptr;
    check(api.CreateCpuMemoryInfo(kArenaAllocator, kDefaultMemory, &created));
    return created;
  }();
  return memory;
}

// An output in the memory of a session's device. The session allocated it, so it lives as long as the value.
class DeviceValue {
 public:
  static inline std::atomic<size_t> count{0};  // in the process

  DeviceValue(OwnedHandle value, SharedSession session) : session(std::move(session)), value(std::move(value)) { count++; }
  DeviceValue(const DeviceValue&) = delete;
  DeviceValue& operator=(const DeviceValue&) = delete;
  ~DeviceValue() { count--; }

  const SharedSession session;
  const OwnedHandle value;

  void* data() const {
    void* data = nullptr;
    check(api.GetTensorMutableData(value.get(), &data));
    return data;
  }
  // Whether a session computes on the device that has the value.
  bool is_on_device_of(const Session& other) const { return session->cuda == other.cuda && session->device == other.device; }
};

using SharedDeviceValue = std::shared_ptr<const DeviceValue>;

// What a handle in JavaScript refers to: a session, or a value on a device. Null if the handle has been released.
template <class T>
struct Reference {
  std::shared_ptr<T> shared;
  int64_t counted_bytes = 0;  // that the garbage collector counts for the handle, which is small itself

  // The collector runs earlier if it counts more bytes.
  void count(napi_env env, int64_t bytes) {
    int64_t total = 0;
    if (napi_adjust_external_memory(env, bytes - counted_bytes, &total) == napi_ok) counted_bytes = bytes;
  }
  void drop(napi_env env) {
    shared.reset();
    if (counted_bytes > 0) count(env, 0);
  }
};

// The object is released with Node's environment if not before.
template <class T>
napi_value handle_of(napi_env env, std::shared_ptr<T> shared, size_t bytes = 0) {
  auto reference = std::make_unique<Reference<T>>(Reference<T>{std::move(shared)});
  napi_value handle = nullptr;
  const auto finalize = [](napi_env env, void* data, void*) {
    const std::unique_ptr<Reference<T>> reference(static_cast<Reference<T>*>(data));
    reference->drop(env);
  };
  javascript::check(env, napi_create_external(env, reference.get(), finalize, nullptr, &handle));
  if (bytes > 0) reference->count(env, static_cast<int64_t>(bytes));
  reference.release();
  return handle;
}

template <class T>
Reference<T>& reference_of(napi_env env, napi_value handle) {
  if (javascript::type_of(env, handle) != napi_external) throw Failure{"expected a handle", "INVALID_OPTION"};
  void* data = nullptr;
  javascript::check(env, napi_get_value_external(env, handle, &data));
  return *static_cast<Reference<T>*>(data);
}

}  // namespace fourierft::onnxruntime
