// Sessions of ONNX Runtime with the operators of this addon, for JavaScript. They are made and run off the main thread, and freed when the last
// run is done. Inputs are copied, because JavaScript can change or free their memory during a run. Outputs are also copied, except those that
// stay on the session's device.
#include "onnxruntime.h"

#include <atomic>
#include <cstdlib>
#include <cmath>
#include <cstring>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "cuda-library.h"
#include "instance.h"
#include "job.h"
#include "library.h"
#include "onnxruntime-api.h"
#include "onnxruntime-values.h"

namespace fourierft::onnxruntime {

Api api;

namespace {

using namespace javascript;
using javascript::check;
using onnxruntime::check;

constexpr int kWarning = 2;      // OrtLoggingLevel
constexpr int kTensorValue = 1;  // ONNXType

Handle environment = nullptr;

// ---- Sessions ----------------------------------------------------------------------------------------------------------------------

using Path = std::filesystem::path;

void describe(Handle session, size_t index, bool is_input, ValueInfo& value) {
  Handle allocator = nullptr, info = nullptr, tensor = nullptr;
  char* name = nullptr;
  check(api.GetAllocatorWithDefaultOptions(&allocator));
  check((is_input ? api.SessionGetInputName : api.SessionGetOutputName)(session, index, allocator, &name));
  value.name = name;
  check(api.AllocatorFree(allocator, name));
  check((is_input ? api.SessionGetInputTypeInfo : api.SessionGetOutputTypeInfo)(session, index, &info));
  const OwnedHandle owned(info, api.ReleaseTypeInfo);
  check(api.CastTypeInfoToTensorInfo(info, &tensor));
  value.is_tensor = tensor != nullptr;
  if (!value.is_tensor) return;
  size_t rank = 0;
  check(api.GetTensorElementType(tensor, &value.type));
  check(api.GetDimensionsCount(tensor, &rank));
  value.dims.resize(rank);
  check(api.GetDimensions(tensor, value.dims.data(), rank));
  std::vector<const char*> symbols(rank);
  check(api.GetSymbolicDimensions(tensor, symbols.data(), rank));
  value.symbols.assign(symbols.begin(), symbols.end());
}

// Reads session options, on JavaScript's thread. Absent options keep ONNX Runtime's defaults.
OwnedHandle read_session_options(napi_env env, napi_value options_object) {
  Handle created = nullptr;
  check(api.CreateSessionOptions(&created));
  OwnedHandle options(created, api.ReleaseSessionOptions);
  const auto number = [&](const char* name, StatusHandle (*set)(Handle, int)) {
    const napi_value value = property(env, options_object, name);
    if (!is_absent(env, value)) check(set(created, static_cast<int>(integer(env, value, name, INT32_MIN, INT32_MAX))));
  };
  const auto path = [&](const char* name, StatusHandle (*set)(Handle, const PathCharacter*)) {
    const napi_value value = property(env, options_object, name);
    if (!is_absent(env, value)) check(set(created, std::filesystem::u8path(text(env, value)).c_str()));
  };
  const auto flag = [&](const char* name, StatusHandle (*on)(Handle), StatusHandle (*off)(Handle)) {
    const napi_value value = property(env, options_object, name);
    if (!is_absent(env, value)) check((boolean(env, value, name) ? on : off)(created));
  };
  number("graphOptimizationLevel", api.SetSessionGraphOptimizationLevel);
  number("intraOpNumThreads", api.SetIntraOpNumThreads);
  number("interOpNumThreads", api.SetInterOpNumThreads);
  number("executionMode", api.SetSessionExecutionMode);
  number("logSeverityLevel", api.SetSessionLogSeverityLevel);
  number("logVerbosityLevel", api.SetSessionLogVerbosityLevel);
  flag("enableCpuMemArena", api.EnableCpuMemArena, api.DisableCpuMemArena);
  flag("enableMemPattern", api.EnableMemPattern, api.DisableMemPattern);
  path("optimizedModelFilePath", api.SetOptimizedModelFilePath);
  path("profileFilePrefix", api.EnableProfiling);
  if (const napi_value id = property(env, options_object, "logId"); !is_absent(env, id)) check(api.SetSessionLogId(created, text(env, id).c_str()));
  const std::vector<std::string> entries = texts(env, property(env, options_object, "configEntries"));
  for (size_t i = 0; i + 1 < entries.size(); i += 2) check(api.AddSessionConfigEntry(created, entries[i].c_str(), entries[i + 1].c_str()));
  const std::vector<std::string> names = texts(env, property(env, options_object, "freeDimensionNames"));
  const napi_value sizes = property(env, options_object, "freeDimensionSizes");
  if (names.size() != length_of(env, sizes)) throw Failure{"freeDimensionOverrides: expected a size for each name", "INVALID_OPTION"};
  for (uint32_t i = 0; i < names.size(); i++) {
    const std::string option = "freeDimensionOverrides." + names[i];
    const int64_t size = integer(env, element(env, sizes, i), option.c_str(), 0, kMaxSafeInteger);
    check(api.AddFreeDimensionOverrideByName(created, names[i].c_str(), size));
  }
  return options;
}

// Adds ONNX Runtime's CUDA provider before the CPU's. `settings`: its options, each name followed by its value.
void append_cuda(Handle session_options, const std::vector<std::string>& settings) {
  std::vector<const char*> names, values;
  for (size_t i = 0; i + 1 < settings.size(); i += 2) {
    names.push_back(settings[i].c_str());
    values.push_back(settings[i + 1].c_str());
  }
  try {
    Handle created = nullptr;
    check(api.CreateCUDAProviderOptions(&created));
    const OwnedHandle options(created, api.ReleaseCUDAProviderOptions);
    check(api.UpdateCUDAProviderOptions(created, names.data(), values.data(), names.size()));
    check(api.SessionOptionsAppendExecutionProvider_CUDA_V2(session_options, created));
  } catch (const Failure& failure) {
    throw Failure{"ONNX Runtime's CUDA provider cannot be used: " + failure.message(), "UNSUPPORTED",
                  "the provider needs the installation step of onnxruntime-node and NVIDIA's CUDA and cuDNN libraries"};
  }
}

// Returns the memory of freed sessions to the system. glibc keeps freed memory for the thread that allocated it. The next session can be made
// on another thread, so a model that is opened again would otherwise use its memory twice.
void return_freed_memory() {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

// The first session with the operators' domain adds the domain to a map of the whole process. ONNX Runtime does not lock that map between the
// lookup and the insertion, so if the first two sessions are made at once, the second can fail. Therefore sessions are made one at a time until
// the first one exists.
std::atomic<bool> is_domain_registered = false;

std::unique_lock<std::mutex> lock_until_domain_is_registered() {
  static std::mutex& mutex = *new std::mutex;
  if (is_domain_registered) return {};
  return std::unique_lock<std::mutex>(mutex);
}

struct Creation : Job {
  explicit Creation(OwnedHandle options) : options(std::move(options)) {}
  OwnedHandle options;
  Path path;
  // The bytes of the model if there is no path: a copy, unless they are in a SharedArrayBuffer, which cannot be detached.
  std::unique_ptr<char[]> copy;
  const void* model = nullptr;
  size_t size = 0;
  std::string cuda_library;  // path; empty: the CPU's kernels
  std::vector<std::string> cuda_settings;
  int cuda_device = 0;
  SharedSession session = std::make_shared<Session>();

  void work() override {
    const CudaLibrary* cuda = cuda_library.empty() ? nullptr : &open_cuda_library(cuda_library);
    session->cuda = cuda;
    session->device = cuda_device;
    if (cuda != nullptr) {
      if (cuda->is_on_device()) append_cuda(options.get(), cuda_settings);
      Handle memory = nullptr;
      check(api.CreateMemoryInfo(cuda->is_on_device() ? "Cuda" : "Cpu", kDeviceAllocator, cuda_device, kDefaultMemory, &memory));
      session->memory = OwnedHandle(memory, api.ReleaseMemoryInfo);
    }
    check(api.AddCustomOpDomain(options.get(), operator_domain(cuda)));
    return_freed_memory();
    std::unique_lock<std::mutex> lock = lock_until_domain_is_registered();
    if (path.empty()) {
      const StatusHandle status = api.CreateSessionFromArray(environment, model, size, options.get(), &session->handle);
      copy.reset();
      check(status);
    } else {
      check(api.CreateSession(environment, path.c_str(), options.get(), &session->handle));
    }
    is_domain_registered = true;
    if (lock) lock.unlock();
    size_t inputs = 0, outputs = 0;
    check(api.SessionGetInputCount(session->handle, &inputs));
    check(api.SessionGetOutputCount(session->handle, &outputs));
    session->inputs.resize(inputs);
    session->outputs.resize(outputs);
    for (size_t i = 0; i < inputs; i++) describe(session->handle, i, true, session->inputs[i]);
    for (size_t i = 0; i < outputs; i++) describe(session->handle, i, false, session->outputs[i]);
  }

  static napi_value values(napi_env env, const std::vector<ValueInfo>& described) {
    const napi_value array = array_of(env, described.size());
    for (size_t i = 0; i < described.size(); i++) {
      const ValueInfo& value = described[i];
      const napi_value object = object_of(env), symbols = array_of(env, value.symbols.size());
      for (size_t d = 0; d < value.symbols.size(); d++) set(env, symbols, d, string_of(env, value.symbols[d]));
      napi_value is_tensor = nullptr;
      check(env, napi_get_boolean(env, value.is_tensor, &is_tensor));
      set(env, object, "name", string_of(env, value.name));
      set(env, object, "isTensor", is_tensor);
      set(env, object, "type", number_of(env, value.type));
      set(env, object, "dims", numbers_of(env, value.dims));
      set(env, object, "symbols", symbols);
      set(env, array, i, object);
    }
    return array;
  }

  napi_value result(napi_env env, napi_value) override {
    const napi_value object = object_of(env);
    set(env, object, "handle", handle_of(env, session));
    set(env, object, "inputs", values(env, session->inputs));
    set(env, object, "outputs", values(env, session->outputs));
    return object;
  }
};

struct Run : Job {
  SharedSession session;
  OwnedHandle options{nullptr, [](Handle) {}};
  std::vector<std::string> output_names;
  CopyBuffers::Block input_bytes;  // the copied data of all inputs
  size_t input_size = 0;
  std::vector<OwnedHandle> inputs, outputs;
  // The inputs that are on the device, and null for the others; empty if there are none.
  std::vector<SharedDeviceValue> device_inputs;
  // For each output, whether it stays on the device; empty if none does.
  std::vector<bool> kept;
  std::vector<SharedDeviceValue> device_outputs;

  void work() override {
    if (device_inputs.empty() && kept.empty()) {
      run();
    } else {
      run_bound();
    }
  }

 private:
  bool is_kept(size_t output) const { return !kept.empty() && kept[output]; }

  // Runs with ONNX Runtime's IO binding, which leaves inputs and outputs where they are. Waits for the device, so that any stream can use
  // the outputs.
  void run_bound() {
    Handle binding = nullptr;
    check(api.CreateIoBinding(session->handle, &binding));
    const OwnedHandle owned(binding, api.ReleaseIoBinding);
    for (size_t i = 0; i < inputs.size(); i++) {
      const bool is_on_device = !device_inputs.empty() && device_inputs[i] != nullptr;
      const Handle value = is_on_device ? device_inputs[i]->value.get() : inputs[i].get();
      check(api.BindInput(binding, session->inputs[i].name.c_str(), value));
    }
    for (size_t i = 0; i < output_names.size(); i++)
      check(api.BindOutputToDevice(binding, output_names[i].c_str(), is_kept(i) ? session->memory.get() : cpu_memory()));
    check(api.SynchronizeBoundInputs(binding));
    check(api.RunWithBinding(session->handle, options.get(), binding));
    check(api.SynchronizeBoundOutputs(binding));
    take_bound_outputs(binding);
    device_outputs.resize(outputs.size());
    for (size_t i = 0; i < outputs.size(); i++)
      if (is_kept(i)) device_outputs[i] = keep(std::move(outputs[i]));
  }

  void take_bound_outputs(Handle binding) {
    outputs.reserve(output_names.size());
    Handle allocator = nullptr, *values = nullptr;
    size_t count = 0;
    check(api.GetAllocatorWithDefaultOptions(&allocator));
    check(api.GetBoundOutputValues(binding, allocator, &values, &count));
    for (size_t i = 0; i < count; i++) {
      OwnedHandle value(values[i], api.ReleaseValue);
      if (outputs.size() < output_names.size()) outputs.push_back(std::move(value));
    }
    if (values != nullptr) check(api.AllocatorFree(allocator, values));
    // Two outputs of the same name are bound once.
    if (outputs.size() != output_names.size()) throw Failure{"outputs: expected different names", "INVALID_OPTION"};
  }

  // An output can be one of the inputs: ONNX Runtime then gives the input's memory. Memory of a device value belongs to its session; the
  // copied data of an input end with the run, so they are copied again.
  SharedDeviceValue keep(OwnedHandle output) const {
    void* data = nullptr;
    check(api.GetTensorMutableData(output.get(), &data));
    for (const SharedDeviceValue& input : device_inputs)
      if (input != nullptr && data != nullptr && input->data() == data) return std::make_shared<DeviceValue>(std::move(output), input->session);
    if (data < input_bytes.data() || data >= input_bytes.data() + input_size)
      return std::make_shared<DeviceValue>(std::move(output), session);
    const TensorShape shape(output.get());
    Handle allocator = nullptr, copy = nullptr;
    void* to = nullptr;
    check(api.GetAllocatorWithDefaultOptions(&allocator));
    check(api.CreateTensorAsOrtValue(allocator, shape.dims.data(), shape.dims.size(), shape.type, &copy));
    OwnedHandle owned(copy, api.ReleaseValue);
    check(api.GetTensorMutableData(copy, &to));
    std::memcpy(to, data, shape.bytes());
    return std::make_shared<DeviceValue>(std::move(owned), session);
  }

  void run() {
    std::vector<const char*> ins, outs;
    std::vector<Handle> in_values, out_values(output_names.size(), nullptr);
    for (const ValueInfo& input : session->inputs) ins.push_back(input.name.c_str());
    for (const std::string& name : output_names) outs.push_back(name.c_str());
    for (const OwnedHandle& input : inputs) in_values.push_back(input.get());
    const StatusHandle status =
        api.Run(session->handle, options.get(), ins.data(), in_values.data(), ins.size(), outs.data(), outs.size(), out_values.data());
    for (const Handle value : out_values) outputs.emplace_back(value, api.ReleaseValue);
    check(status);
  }

  napi_value result(napi_env env, napi_value) override {
    const napi_value array = array_of(env, outputs.size());
    for (size_t i = 0; i < outputs.size(); i++)
      set(env, array, i, is_kept(i) ? device_tensor(env, device_outputs[i], output_names[i]) : tensor(env, outputs[i].get(), output_names[i]));
    return array;
  }

  static napi_value described(napi_env env, const std::string& name, const TensorShape& shape) {
    const napi_value object = object_of(env);
    set(env, object, "name", string_of(env, name));
    set(env, object, "type", number_of(env, shape.type));
    set(env, object, "dims", numbers_of(env, shape.dims));
    return object;
  }

  static napi_value device_tensor(napi_env env, const SharedDeviceValue& value, const std::string& name) {
    const TensorShape shape(value->value.get());
    const napi_value object = described(env, name, shape);
    set(env, object, "value", handle_of(env, value, shape.bytes()));
    return object;
  }

  static napi_value tensor(napi_env env, Handle value, const std::string& name) {
    int kind = 0;
    if (value == nullptr) throw Failure{"output " + name + " was not computed"};
    check(api.GetValueType(value, &kind));
    if (kind != kTensorValue) throw Failure{"output " + name + " is a sequence or a map; only tensors can be returned"};
    const TensorShape shape(value);
    const napi_value object = described(env, name, shape);
    set(env, object, "data", shape.type == kString ? strings(env, value, shape.count) : copy_of(env, value, shape, name));
    return object;
  }

  static napi_value copy_of(napi_env env, Handle value, const TensorShape& shape, const std::string& name) {
    if (bits_of(shape.type) == 0)
      throw Failure{"output " + name + " is of a type that cannot be returned (" + std::to_string(shape.type) + ")"};
    const size_t size = shape.bytes();
    void *data = nullptr, *copy = nullptr;
    check(api.GetTensorMutableData(value, &data));
    const napi_value buffer = array_buffer_of(env, size, copy);
    if (size > 0) std::memcpy(copy, data, size);
    return buffer;
  }

  static napi_value strings(napi_env env, Handle value, size_t count) {
    size_t size = 0;
    check(api.GetStringTensorDataLength(value, &size));
    std::string content(size, '\0');
    std::vector<size_t> offsets(count + 1, size);
    if (count > 0) check(api.GetStringTensorContent(value, content.data(), size, offsets.data(), count));
    const napi_value array = array_of(env, count);
    for (size_t i = 0; i < count; i++) set(env, array, i, string_of(env, content.substr(offsets[i], offsets[i + 1] - offsets[i])));
    return array;
  }
};

OwnedHandle string_tensor(const std::vector<int64_t>& dims, const std::vector<std::string>& content) {
  std::vector<const char*> pointers;
  for (const std::string& text : content) pointers.push_back(text.c_str());
  Handle value = nullptr, allocator = nullptr;
  check(api.GetAllocatorWithDefaultOptions(&allocator));
  check(api.CreateTensorAsOrtValue(allocator, dims.data(), dims.size(), kString, &value));
  OwnedHandle owner(value, api.ReleaseValue);
  check(api.FillStringTensor(value, pointers.data(), pointers.size()));
  return owner;
}

// Makes a tensor that uses these bytes without a copy.
OwnedHandle number_tensor(int type, const std::vector<int64_t>& dims, void* data, size_t bytes) {
  Handle value = nullptr;
  check(api.CreateTensorWithDataAsOrtValue(cpu_memory(), data, bytes, dims.data(), dims.size(), type, &value));
  return OwnedHandle(value, api.ReleaseValue);
}

OwnedHandle read_run_options(napi_env env, napi_value options_object) {
  Handle created = nullptr;
  check(api.CreateRunOptions(&created));
  OwnedHandle options(created, api.ReleaseRunOptions);
  const auto number = [&](const char* name, StatusHandle (*set)(Handle, int)) {
    const napi_value value = property(env, options_object, name);
    if (!is_absent(env, value)) check(set(created, static_cast<int>(integer(env, value, name, INT32_MIN, INT32_MAX))));
  };
  number("logSeverityLevel", api.RunOptionsSetRunLogSeverityLevel);
  number("logVerbosityLevel", api.RunOptionsSetRunLogVerbosityLevel);
  if (const napi_value tag = property(env, options_object, "tag"); !is_absent(env, tag))
    check(api.RunOptionsSetRunTag(created, text(env, tag).c_str()));
  return options;
}

// "1.30.0" -> {1, 30}
std::pair<int, int> major_and_minor(const char* version) {
  char* rest = nullptr;
  const long major = std::strtol(version, &rest, 10);
  return {static_cast<int>(major), *rest == '.' ? static_cast<int>(std::strtol(rest + 1, nullptr, 10)) : 0};
}

// Loads the functions, once for the process, and returns the library's version. Functions are only ever added to the table, so libraries newer
// than the tested ones work.
std::string bind_library(const std::string& path) {
  static std::mutex& mutex = *new std::mutex;
  static Library bound = nullptr;
  static std::string& version = *new std::string;
  std::lock_guard<std::mutex> lock(mutex);
  Library library = loaded_library(path.c_str());
  if (library == nullptr) throw Failure{path + " is not loaded in this process", "UNSUPPORTED", "load onnxruntime-node first"};
  if (library == bound) return version;
  if (bound != nullptr)
    throw Failure{path + " is a second ONNX Runtime: this process already uses another one (" + version + ")", "UNSUPPORTED"};
  const auto base_of = reinterpret_cast<const Base* (*)()>(library_function(library, "OrtGetApiBase"));
  if (base_of == nullptr) throw Failure{path + " is not ONNX Runtime: it has no OrtGetApiBase", "UNSUPPORTED"};
  const std::string found = base_of()->version();
  // `get_api` of a library that is too old would print a line to standard error.
  const bool is_old = major_and_minor(found.c_str()) < std::make_pair(1, static_cast<int>(kApiVersion));
  const void* const* table = is_old ? nullptr : base_of()->get_api(kApiVersion);
  if (table == nullptr)
    throw Failure{"ONNX Runtime " + found + (is_old ? " is too old: expected 1." + std::to_string(kApiVersion) + " or newer"
                                                    : " no longer has the interface of 1." + std::to_string(kApiVersion)),
                  "UNSUPPORTED"};
#define FOURIERFT_FUNCTION(name, slot, result, parameters) api.name = reinterpret_cast<decltype(api.name)>(const_cast<void*>(table[slot]));
  FOURIERFT_ONNXRUNTIME_FUNCTIONS(FOURIERFT_FUNCTION)
#undef FOURIERFT_FUNCTION
  Handle created = nullptr;
  check(api.CreateEnv(kWarning, "fourierft", &created));
  operator_domain();
  environment = created;
  bound = library;
  return version = found;
}

// Reads all inputs of the session, in its order. There can be hundreds of them, and each access to a JavaScript value costs as much as a small
// layer, so the types, ranks and dims of all inputs come as one array of doubles.
void read_inputs(napi_env env, napi_value shapes_array, napi_value data, Run& job) {
  struct Input {
    int type;
    std::vector<int64_t> dims;
    napi_value data;
  };
  const std::vector<ValueInfo>& expected = job.session->inputs;
  // Runs `body` for each input and adds the input's name to its errors.
  const auto for_each_input = [&](const auto& body) {
    for (uint32_t i = 0; i < expected.size(); i++) {
      try {
        body(i);
      } catch (const Failure& failure) {
        throw Failure{"input " + expected[i].name + ": " + failure.problem, failure.code, failure.advice};
      }
    }
  };
  if (length_of(env, data) != expected.size()) throw Failure{"expected a tensor for each input", "INVALID_OPTION"};
  const TypedArray shape_numbers(env, shapes_array);
  if (shape_numbers.type != napi_float64_array) throw Failure{"expected shapes as a Float64Array", "INVALID_OPTION"};
  const auto* first = static_cast<const double*>(shape_numbers.data);
  const std::vector<double> shapes(first, first + shape_numbers.length);
  std::vector<Input> inputs(expected.size());
  size_t offset = 0;
  for_each_input([&](uint32_t i) {
    const size_t remaining = shapes.size() - offset;
    if (remaining < 2 || !(shapes[offset] >= 0 && shapes[offset] <= INT32_MAX) ||
        !(shapes[offset + 1] >= 0 && shapes[offset + 1] <= static_cast<double>(remaining - 2)))
      throw Failure{"expected its type, its rank and its dims", "INVALID_OPTION"};
    inputs[i].type = static_cast<int>(shapes[offset]);
    const size_t rank = static_cast<size_t>(shapes[offset + 1]);
    offset += 2;
    for (size_t d = 0; d < rank; d++, offset++) {
      if (!(std::fabs(shapes[offset]) <= static_cast<double>(kMaxSafeInteger)) || shapes[offset] != std::floor(shapes[offset]))
        throw Failure{"expected dims that are integers", "INVALID_OPTION"};
      inputs[i].dims.push_back(static_cast<int64_t>(shapes[offset]));
    }
    inputs[i].data = element(env, data, i);
  });
  job.inputs.reserve(expected.size());
  for (size_t i = 0; i < expected.size(); i++) job.inputs.emplace_back(nullptr, api.ReleaseValue);
  // Strings are read first, because that can run the user's code. Nothing after it does, so no array changes after its size was read and
  // before it is copied.
  for_each_input([&](uint32_t i) {
    if (inputs[i].type == kString) job.inputs[i] = string_tensor(inputs[i].dims, texts(env, inputs[i].data));
  });
  std::vector<TypedArray> arrays;
  size_t bytes = 0;
  const auto padded = [](size_t size) { return (size + 63) / 64 * 64; };
  const auto has_bytes = [&](uint32_t i) {
    return inputs[i].type != kString && (job.device_inputs.empty() || job.device_inputs[i] == nullptr);
  };
  for_each_input([&](uint32_t i) {
    if (!has_bytes(i)) return;
    arrays.emplace_back(env, inputs[i].data);
    bytes += padded(arrays.back().bytes);
  });
  job.input_bytes = Instance::of(env).copy_buffers.take(bytes);
  job.input_size = bytes;
  char* next = job.input_bytes.data();
  auto array = arrays.begin();
  for_each_input([&](uint32_t i) {
    if (!has_bytes(i)) return;
    if (array->bytes > 0) std::memcpy(next, array->data, array->bytes);
    job.inputs[i] = number_tensor(inputs[i].type, inputs[i].dims, next, array->bytes);
    next += padded(array->bytes);
    ++array;
  });
}

// Reads { inputs, outputs } of a run: a handle or null for each input, and for each output whether it stays on the device. Either can be null.
void read_device_values(napi_env env, napi_value values, Run& job) {
  const Session& session = *job.session;
  if (const napi_value inputs = property(env, values, "inputs"); !is_absent(env, inputs)) {
    if (length_of(env, inputs) != session.inputs.size()) throw Failure{"expected a handle or null for each input", "INVALID_OPTION"};
    job.device_inputs.resize(session.inputs.size());
    for (uint32_t i = 0; i < session.inputs.size(); i++) {
      const std::string& name = session.inputs[i].name;
      const napi_value handle = element(env, inputs, i);
      if (is_absent(env, handle)) continue;
      const SharedDeviceValue& value = reference_of<const DeviceValue>(env, handle).shared;
      if (value == nullptr) throw Failure{"input " + name + ": the tensor has been released", "INVALID_STATE", "", name};
      if (!value->is_on_device_of(session))
        throw Failure{"input " + name + ": the tensor is on another device than the session", "UNSUPPORTED", "read it first", name};
      job.device_inputs[i] = value;
    }
  }
  const napi_value outputs = property(env, values, "outputs");
  if (is_absent(env, outputs)) return;
  if (length_of(env, outputs) != job.output_names.size()) throw Failure{"expected a boolean for each output", "INVALID_OPTION"};
  for (uint32_t i = 0; i < job.output_names.size(); i++) job.kept.push_back(boolean(env, element(env, outputs, i), "outputs"));
  for (const ValueInfo& output : session.outputs)
    for (size_t i = 0; i < job.output_names.size(); i++) {
      if (!job.kept[i] || job.output_names[i] != output.name) continue;
      if (session.cuda == nullptr) throw Failure{"output " + output.name + ": the session has no device", "UNSUPPORTED", "", output.name};
      if (!output.is_tensor || bits_of(output.type) == 0)
        throw Failure{"output " + output.name + ": only tensors of numbers can stay on a device", "UNSUPPORTED", "", output.name};
    }
}

// Copies a value from its device.
struct Reading : Job {
  static constexpr uint32_t kHandle = 0;

  // The bytes replace the handle among the arguments.
  Reading(napi_env env, napi_value& argument) : value_(reference_of<const DeviceValue>(env, argument).shared) {
    if (value_ == nullptr) throw Failure{"the tensor has been released", "INVALID_STATE"};
    size_ = TensorShape(value_->value.get()).bytes();
    argument = array_buffer_of(env, size_, to_);
  }

  void work() override {
    if (size_ == 0) return;
    const CudaLibrary& cuda = *value_->session->cuda;
    const fourierft_cuda_status status = cuda.read(to_, value_->data(), size_, value_->session->device);
    if (status != FOURIERFT_CUDA_OK) throw Failure{"the tensor cannot be read: " + cuda.text_of(status)};
  }

  napi_value result(napi_env env, napi_value arguments) override { return element(env, arguments, kHandle); }

 private:
  SharedDeviceValue value_;
  size_t size_ = 0;
  void* to_ = nullptr;
};

// Opens the CUDA kernels' library off JavaScript's thread, because it loads the driver.
struct CudaOpening : Job {
  std::string path;
  int devices = 0;
  void work() override { devices = open_cuda_library(path).devices; }
  napi_value result(napi_env env, napi_value) override { return number_of(env, devices); }
};

}  // namespace

size_t session_count() { return Session::count; }
size_t device_value_count() { return DeviceValue::count; }

napi_value open_onnxruntime(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, [&](const napi_value (&v)[1]) { return string_of(env, bind_library(text(env, v[0]))); });
}

napi_value open_cuda(napi_env env, napi_callback_info info) {
  return guarded<2>(env, info, [&](const napi_value (&v)[2]) -> napi_value {
    auto job = std::make_unique<CudaOpening>();
    job->path = text(env, v[0]);
    Job::start(env, std::move(job), v);
    return nullptr;
  });
}

napi_value create_session(napi_env env, napi_callback_info info) {
  return guarded<3>(env, info, [&](const napi_value (&v)[3]) -> napi_value {
    if (environment == nullptr) throw Failure{"ONNX Runtime is not open", "INVALID_STATE", "call openOnnxRuntime first"};
    auto job = std::make_unique<Creation>(read_session_options(env, v[1]));
    if (const napi_value library = property(env, v[1], "cudaLibrary"); !is_absent(env, library)) {
      job->cuda_library = text(env, library);
      job->cuda_settings = texts(env, property(env, v[1], "cudaSettings"));
      job->cuda_device = static_cast<int>(integer(env, property(env, v[1], "cudaDevice"), "cudaDevice", 0, INT32_MAX));
    }
    if (type_of(env, v[0]) == napi_string) {
      job->path = std::filesystem::u8path(text(env, v[0]));
    } else {
      const TypedArray bytes(env, v[0]);
      job->model = bytes.data;
      job->size = bytes.bytes;
      if (!bytes.is_shared) {
        job->copy.reset(new char[bytes.bytes]);
        if (bytes.bytes > 0) std::memcpy(job->copy.get(), bytes.data, bytes.bytes);
        job->model = job->copy.get();
      }
    }
    Job::start(env, std::move(job), v);
    return nullptr;
  });
}

napi_value run_session(napi_env env, napi_callback_info info) {
  return guarded<7>(env, info, [&](const napi_value (&v)[7]) -> napi_value {
    auto job = std::make_unique<Run>();
    job->session = reference_of<Session>(env, v[0]).shared;
    if (job->session == nullptr) throw Failure{"the session has been released", "INVALID_STATE"};
    job->output_names = texts(env, v[3]);
    job->options = read_run_options(env, v[4]);
    if (!is_absent(env, v[5])) read_device_values(env, v[5], *job);
    read_inputs(env, v[1], v[2], *job);
    Job::start(env, std::move(job), v);
    return nullptr;
  });
}

napi_value release_session(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, [&](const napi_value (&v)[1]) -> napi_value {
    reference_of<Session>(env, v[0]).drop(env);
    return nullptr;
  });
}

napi_value read_device_value(napi_env env, napi_callback_info info) {
  return guarded<2>(env, info, [&](napi_value (&v)[2]) -> napi_value {
    auto job = std::make_unique<Reading>(env, v[Reading::kHandle]);
    Job::start(env, std::move(job), v);
    return nullptr;
  });
}

napi_value release_device_value(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, [&](const napi_value (&v)[1]) -> napi_value {
    reference_of<const DeviceValue>(env, v[0]).drop(env);
    return nullptr;
  });
}

}  // namespace fourierft::onnxruntime
