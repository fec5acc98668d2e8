// Sessions of ONNX Runtime with the operators of this addon, for JavaScript: made and run off the main thread, freed when the last run is
// done. Tensors go in as views of JavaScript's memory and come out as copies.
#include "onnxruntime.h"

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
#include "library.h"
#include "onnxruntime-api.h"

namespace fourierft::onnxruntime {

Api api;

namespace {

constexpr int kVerbose = 0, kWarning = 2;                       // OrtLoggingLevel
constexpr int kTensorValue = 1;                                 // ONNXType
constexpr int kArenaAllocator = 1, kDefaultMemory = 0;          // OrtAllocatorType, OrtMemType

Handle environment = nullptr;

using Owner = std::unique_ptr<void, void (*)(Handle)>;

struct Value {
  std::string name;
  bool is_tensor = false;
  int type = 0;
  std::vector<int64_t> dims;  // -1: dynamic, and then it may have a name
  std::vector<std::string> symbols;
};

struct Session {
  Handle handle = nullptr;
  std::vector<Value> inputs, outputs;
  Session() = default;
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  ~Session() {
    if (handle != nullptr) api.ReleaseSession(handle);
  }
};

// Bits of one element; 0 for types that are not numbers. ONNXTensorElementDataType.
int bits_of(int type) {
  constexpr int bits[] = {0, 32, 8, 8, 16, 16, 32, 64, 0, 8, 16, 64, 32, 64, 64, 128, 16, 8, 8, 8, 8, 4, 4};
  return type >= 0 && type < static_cast<int>(sizeof bits / sizeof *bits) ? bits[type] : 0;
}

// ---- JavaScript values -------------------------------------------------------------------------------------------------------------

std::string text(napi_env env, napi_value value) {
  size_t length = 0;
  if (napi_get_value_string_utf8(env, value, nullptr, 0, &length) != napi_ok) throw Failure{"expected a string"};
  std::string result(length, '\0');
  napi_get_value_string_utf8(env, value, result.data(), length + 1, &length);
  return result;
}

napi_value string(napi_env env, const std::string& value) {
  napi_value result;
  napi_create_string_utf8(env, value.c_str(), value.size(), &result);
  return result;
}

napi_value property(napi_env env, napi_value object, const char* name) {
  napi_value value = nullptr;
  if (napi_get_named_property(env, object, name, &value) != napi_ok) throw Failure{std::string("expected an object with ") + name};
  return value;
}

bool is_absent(napi_env env, napi_value value) {
  napi_valuetype type = napi_undefined;
  napi_typeof(env, value, &type);
  return type == napi_undefined || type == napi_null;
}

uint32_t length_of(napi_env env, napi_value array) {
  uint32_t length = 0;
  if (napi_get_array_length(env, array, &length) != napi_ok) throw Failure{"expected an array"};
  return length;
}

napi_value element(napi_env env, napi_value array, uint32_t index) {
  napi_value value = nullptr;
  napi_get_element(env, array, index, &value);
  return value;
}

std::vector<std::string> texts(napi_env env, napi_value array) {
  std::vector<std::string> result(length_of(env, array));
  for (uint32_t i = 0; i < result.size(); i++) result[i] = text(env, element(env, array, i));
  return result;
}

std::vector<int64_t> integers(napi_env env, napi_value array) {
  std::vector<int64_t> result(length_of(env, array));
  for (uint32_t i = 0; i < result.size(); i++)
    if (napi_get_value_int64(env, element(env, array, i), &result[i]) != napi_ok) throw Failure{"expected an array of integers"};
  return result;
}

napi_value numbers(napi_env env, const std::vector<int64_t>& values) {
  napi_value array, number;
  napi_create_array_with_length(env, values.size(), &array);
  for (uint32_t i = 0; i < values.size(); i++) {
    napi_create_int64(env, values[i], &number);
    napi_set_element(env, array, i, number);
  }
  return array;
}

// The bytes of a typed array: a view.
struct Bytes {
  void* data = nullptr;
  size_t size = 0;
};

Bytes bytes(napi_env env, napi_value value) {
  bool is_array = false;
  napi_is_typedarray(env, value, &is_array);
  if (!is_array) throw Failure{"expected a typed array"};
  constexpr size_t widths[] = {1, 1, 1, 2, 2, 4, 4, 4, 8, 8, 8};  // napi_typedarray_type
  napi_typedarray_type type;
  Bytes view;
  napi_get_typedarray_info(env, value, &type, &view.size, &view.data, nullptr, nullptr);
  if (type >= sizeof widths / sizeof *widths) throw Failure{"expected a typed array of a known type"};
  view.size *= widths[type];
  return view;
}

// ---- Work off the main thread ------------------------------------------------------------------------------------------------------

// A job: `work` runs on a thread of the pool, `result` on JavaScript's thread afterwards. What `work` throws rejects the promise.
struct Job {
  virtual ~Job() = default;
  virtual void work() = 0;
  virtual napi_value result(napi_env env) = 0;

  Failure failure;
  bool failed = false;
  napi_ref kept = nullptr;
  napi_deferred deferred = nullptr;
  napi_async_work handle = nullptr;
};

void execute(napi_env, void* data) {
  Job& job = *static_cast<Job*>(data);
  try {
    job.work();
  } catch (const Failure& failure) {
    job.failed = true;
    job.failure = failure;
  } catch (const std::exception& error) {
    job.failed = true;
    job.failure = {error.what()};
  }
}

void complete(napi_env env, napi_status, void* data) {
  const std::unique_ptr<Job> job(static_cast<Job*>(data));
  napi_value value = nullptr;
  if (!job->failed) {
    try {
      value = job->result(env);
    } catch (const Failure& failure) {
      job->failed = true;
      job->failure = failure;
    }
  }
  if (job->failed) {
    napi_value error;
    const char* code = job->failure.code;
    napi_create_error(env, code == nullptr ? nullptr : string(env, code), string(env, job->failure.message), &error);
    napi_reject_deferred(env, job->deferred, error);
  } else {
    napi_resolve_deferred(env, job->deferred, value);
  }
  napi_delete_reference(env, job->kept);
  napi_delete_async_work(env, job->handle);
}

// Starts the job and returns its promise; the arguments are kept alive until it is done.
template <size_t N>
napi_value start(napi_env env, std::unique_ptr<Job> job, const napi_value (&kept)[N]) {
  napi_value array, promise;
  napi_create_array_with_length(env, N, &array);
  for (uint32_t i = 0; i < N; i++) napi_set_element(env, array, i, kept[i]);
  napi_create_reference(env, array, 1, &job->kept);
  napi_create_promise(env, &job->deferred, &promise);
  Job* raw = job.release();
  napi_create_async_work(env, nullptr, string(env, "fourierft:onnxruntime"), execute, complete, raw, &raw->handle);
  napi_queue_async_work(env, raw->handle);
  return promise;
}

template <size_t N, class Body>
napi_value guarded(napi_env env, napi_callback_info info, const Body& body) {
  napi_value arguments[N];
  size_t count = N;
  napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr);
  try {
    if (count != N) throw Failure{"expected " + std::to_string(N) + " arguments"};
    return body(arguments);
  } catch (const Failure& failure) {
    napi_throw_error(env, "UNSUPPORTED", failure.message.c_str());
    return nullptr;
  }
}

// ---- Sessions ----------------------------------------------------------------------------------------------------------------------

using Path = std::filesystem::path;

void describe(Handle session, size_t index, bool is_input, Value& value) {
  Handle allocator = nullptr, info = nullptr, tensor = nullptr;
  char* name = nullptr;
  check(api.GetAllocatorWithDefaultOptions(&allocator));
  check((is_input ? api.SessionGetInputName : api.SessionGetOutputName)(session, index, allocator, &name));
  value.name = name;
  check(api.AllocatorFree(allocator, name));
  check((is_input ? api.SessionGetInputTypeInfo : api.SessionGetOutputTypeInfo)(session, index, &info));
  const Owner owned(info, api.ReleaseTypeInfo);
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

// Session options, read from JavaScript on its thread. Absent ones keep ONNX Runtime's defaults.
Owner read_session_options(napi_env env, napi_value given) {
  Handle created = nullptr;
  check(api.CreateSessionOptions(&created));
  Owner options(created, api.ReleaseSessionOptions);
  const auto number = [&](const char* name, StatusHandle (*set)(Handle, int)) {
    const napi_value value = property(env, given, name);
    if (is_absent(env, value)) return;
    int32_t level = 0;
    if (napi_get_value_int32(env, value, &level) != napi_ok) throw Failure{std::string(name) + ": expected an integer"};
    check(set(created, level));
  };
  const auto path = [&](const char* name, StatusHandle (*set)(Handle, const PathCharacter*)) {
    const napi_value value = property(env, given, name);
    if (!is_absent(env, value)) check(set(created, std::filesystem::u8path(text(env, value)).c_str()));
  };
  const auto choice = [&](const char* name, StatusHandle (*on)(Handle), StatusHandle (*off)(Handle)) {
    const napi_value value = property(env, given, name);
    if (is_absent(env, value)) return;
    bool wanted = false;
    if (napi_get_value_bool(env, value, &wanted) != napi_ok) throw Failure{std::string(name) + ": expected a boolean"};
    check((wanted ? on : off)(created));
  };
  number("graphOptimizationLevel", api.SetSessionGraphOptimizationLevel);
  number("intraOpNumThreads", api.SetIntraOpNumThreads);
  number("interOpNumThreads", api.SetInterOpNumThreads);
  number("executionMode", api.SetSessionExecutionMode);
  number("logSeverityLevel", api.SetSessionLogSeverityLevel);
  number("logVerbosityLevel", api.SetSessionLogVerbosityLevel);
  choice("enableCpuMemArena", api.EnableCpuMemArena, api.DisableCpuMemArena);
  choice("enableMemPattern", api.EnableMemPattern, api.DisableMemPattern);
  path("optimizedModelFilePath", api.SetOptimizedModelFilePath);
  path("profileFilePrefix", api.EnableProfiling);
  if (const napi_value id = property(env, given, "logId"); !is_absent(env, id)) check(api.SetSessionLogId(created, text(env, id).c_str()));
  const std::vector<std::string> entries = texts(env, property(env, given, "configEntries"));
  for (size_t i = 0; i + 1 < entries.size(); i += 2) check(api.AddSessionConfigEntry(created, entries[i].c_str(), entries[i + 1].c_str()));
  const std::vector<std::string> names = texts(env, property(env, given, "freeDimensionNames"));
  const std::vector<int64_t> sizes = integers(env, property(env, given, "freeDimensionSizes"));
  if (names.size() != sizes.size()) throw Failure{"freeDimensionOverrides: expected a size for each name"};
  for (size_t i = 0; i < names.size(); i++) check(api.AddFreeDimensionOverrideByName(created, names[i].c_str(), sizes[i]));
  return options;
}

const CudaLibrary& cuda_library(const std::string& path) {
  std::string wrong;
  if (const CudaLibrary* library = open_cuda_library(path, wrong)) return *library;
  throw Failure{wrong, "UNSUPPORTED"};
}

// Puts ONNX Runtime's CUDA provider before the CPU's. `settings`: its options, each name followed by its value.
void append_cuda(Handle session_options, const std::vector<std::string>& settings) {
  std::vector<const char*> names, values;
  for (size_t i = 0; i + 1 < settings.size(); i += 2) {
    names.push_back(settings[i].c_str());
    values.push_back(settings[i + 1].c_str());
  }
  try {
    Handle created = nullptr;
    check(api.CreateCUDAProviderOptions(&created));
    const Owner options(created, api.ReleaseCUDAProviderOptions);
    check(api.UpdateCUDAProviderOptions(created, names.data(), values.data(), names.size()));
    check(api.SessionOptionsAppendExecutionProvider_CUDA_V2(session_options, created));
  } catch (const Failure& failure) {
    throw Failure{"ONNX Runtime's CUDA provider cannot be used (it comes with the installation step of onnxruntime-node, and needs NVIDIA's "
                  "CUDA and cuDNN libraries): " + failure.message, "UNSUPPORTED"};
  }
}

// Gives the system back what sessions before have freed. glibc keeps it for the thread that took it, which need not be the one that makes the
// next session: a model that is opened anew would take its memory twice.
void return_freed_memory() {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

using SharedSession = std::shared_ptr<Session>;

struct Creation : Job {
  explicit Creation(Owner options) : options(std::move(options)) {}
  Owner options;
  Path path;
  Bytes model;               // read where there is no path
  std::string cuda_library;  // path; empty: the CPU's kernels
  std::vector<std::string> cuda_settings;
  SharedSession session = std::make_shared<Session>();

  void work() override {
    const CudaLibrary* cuda = cuda_library.empty() ? nullptr : &onnxruntime::cuda_library(cuda_library);
    if (cuda != nullptr && cuda->is_on_device()) append_cuda(options.get(), cuda_settings);
    check(api.AddCustomOpDomain(options.get(), operator_domain(cuda)));
    return_freed_memory();
    if (path.empty()) {
      check(api.CreateSessionFromArray(environment, model.data, model.size, options.get(), &session->handle));
    } else {
      check(api.CreateSession(environment, path.c_str(), options.get(), &session->handle));
    }
    size_t inputs = 0, outputs = 0;
    check(api.SessionGetInputCount(session->handle, &inputs));
    check(api.SessionGetOutputCount(session->handle, &outputs));
    session->inputs.resize(inputs);
    session->outputs.resize(outputs);
    for (size_t i = 0; i < inputs; i++) describe(session->handle, i, true, session->inputs[i]);
    for (size_t i = 0; i < outputs; i++) describe(session->handle, i, false, session->outputs[i]);
  }

  static napi_value values(napi_env env, const std::vector<Value>& described) {
    napi_value array;
    napi_create_array_with_length(env, described.size(), &array);
    for (uint32_t i = 0; i < described.size(); i++) {
      const Value& value = described[i];
      napi_value object, is_tensor, type, symbols;
      napi_create_object(env, &object);
      napi_get_boolean(env, value.is_tensor, &is_tensor);
      napi_create_int32(env, value.type, &type);
      napi_create_array_with_length(env, value.symbols.size(), &symbols);
      for (uint32_t d = 0; d < value.symbols.size(); d++) napi_set_element(env, symbols, d, string(env, value.symbols[d]));
      napi_set_named_property(env, object, "name", string(env, value.name));
      napi_set_named_property(env, object, "isTensor", is_tensor);
      napi_set_named_property(env, object, "type", type);
      napi_set_named_property(env, object, "dims", numbers(env, value.dims));
      napi_set_named_property(env, object, "symbols", symbols);
      napi_set_element(env, array, i, object);
    }
    return array;
  }

  napi_value result(napi_env env) override {
    napi_value object, handle;
    napi_create_object(env, &object);
    napi_create_external(env, new SharedSession(session), [](napi_env, void* data, void*) { delete static_cast<SharedSession*>(data); }, nullptr,
                         &handle);
    napi_set_named_property(env, object, "handle", handle);
    napi_set_named_property(env, object, "inputs", values(env, session->inputs));
    napi_set_named_property(env, object, "outputs", values(env, session->outputs));
    return object;
  }
};

SharedSession& session_of(napi_env env, napi_value handle) {
  void* data = nullptr;
  if (napi_get_value_external(env, handle, &data) != napi_ok) throw Failure{"expected the handle of a session"};
  return *static_cast<SharedSession*>(data);
}

struct Run : Job {
  SharedSession session;
  Owner options{nullptr, [](Handle) {}};
  std::vector<std::string> output_names;
  std::vector<Owner> inputs, outputs;

  void work() override {
    std::vector<const char*> ins, outs;
    std::vector<Handle> in_values, out_values(output_names.size(), nullptr);
    for (const Value& input : session->inputs) ins.push_back(input.name.c_str());
    for (const std::string& name : output_names) outs.push_back(name.c_str());
    for (const Owner& input : inputs) in_values.push_back(input.get());
    const StatusHandle status =
        api.Run(session->handle, options.get(), ins.data(), in_values.data(), ins.size(), outs.data(), outs.size(), out_values.data());
    for (const Handle value : out_values) outputs.emplace_back(value, api.ReleaseValue);
    check(status);
  }

  napi_value result(napi_env env) override {
    napi_value array;
    napi_create_array_with_length(env, outputs.size(), &array);
    for (uint32_t i = 0; i < outputs.size(); i++) napi_set_element(env, array, i, tensor(env, outputs[i].get(), output_names[i]));
    return array;
  }

  static napi_value tensor(napi_env env, Handle value, const std::string& name) {
    int kind = 0, type = 0;
    check(api.GetValueType(value, &kind));
    if (kind != kTensorValue) throw Failure{"output " + name + " is a sequence or a map; only tensors can be returned"};
    Handle info = nullptr;
    check(api.GetTensorTypeAndShape(value, &info));
    const Owner owned(info, api.ReleaseTensorTypeAndShapeInfo);
    size_t rank = 0, count = 0;
    check(api.GetTensorElementType(info, &type));
    check(api.GetDimensionsCount(info, &rank));
    check(api.GetTensorShapeElementCount(info, &count));
    std::vector<int64_t> dims(rank);
    check(api.GetDimensions(info, dims.data(), rank));
    napi_value object, type_value;
    napi_create_object(env, &object);
    napi_create_int32(env, type, &type_value);
    napi_set_named_property(env, object, "type", type_value);
    napi_set_named_property(env, object, "dims", numbers(env, dims));
    napi_set_named_property(env, object, "data", type == kString ? strings(env, value, count) : copied(env, value, type, count, name));
    return object;
  }

  static napi_value copied(napi_env env, Handle value, int type, size_t count, const std::string& name) {
    const int bits = bits_of(type);
    if (bits == 0) throw Failure{"output " + name + " is of a type that cannot be returned (" + std::to_string(type) + ")"};
    const size_t size = (count * static_cast<size_t>(bits) + 7) / 8;
    void *data = nullptr, *copy = nullptr;
    check(api.GetTensorMutableData(value, &data));
    napi_value buffer;
    if (napi_create_arraybuffer(env, size, &copy, &buffer) != napi_ok) throw Failure{"no memory for output " + name};
    if (size > 0) std::memcpy(copy, data, size);
    return buffer;
  }

  static napi_value strings(napi_env env, Handle value, size_t count) {
    size_t size = 0;
    check(api.GetStringTensorDataLength(value, &size));
    std::string content(size, '\0');
    std::vector<size_t> offsets(count + 1, size);
    if (count > 0) check(api.GetStringTensorContent(value, content.data(), size, offsets.data(), count));
    napi_value array;
    napi_create_array_with_length(env, count, &array);
    for (size_t i = 0; i < count; i++)
      napi_set_element(env, array, static_cast<uint32_t>(i), string(env, content.substr(offsets[i], offsets[i + 1] - offsets[i])));
    return array;
  }
};

// A tensor of JavaScript as one of ONNX Runtime: numbers as a view, strings as a copy.
Owner read_tensor(napi_env env, int type, const std::vector<int64_t>& dims, napi_value data) {
  Handle value = nullptr;
  if (type == kString) {
    const std::vector<std::string> content = texts(env, data);
    std::vector<const char*> pointers;
    for (const std::string& each : content) pointers.push_back(each.c_str());
    Handle allocator = nullptr;
    check(api.GetAllocatorWithDefaultOptions(&allocator));
    check(api.CreateTensorAsOrtValue(allocator, dims.data(), dims.size(), type, &value));
    Owner owner(value, api.ReleaseValue);
    check(api.FillStringTensor(value, pointers.data(), pointers.size()));
    return owner;
  }
  const Bytes view = bytes(env, data);
  // An address for tensors without elements, for which JavaScript has none.
  static char nothing = 0;
  // Of the process: views of JavaScript's memory are all alike.
  static const Handle memory = [] {
    Handle created = nullptr;
    check(api.CreateCpuMemoryInfo(kArenaAllocator, kDefaultMemory, &created));
    return created;
  }();
  check(api.CreateTensorWithDataAsOrtValue(memory, view.data == nullptr ? &nothing : view.data, view.size, dims.data(), dims.size(), type,
                                           &value));
  return Owner(value, api.ReleaseValue);
}

Owner read_run_options(napi_env env, napi_value given) {
  Handle created = nullptr;
  check(api.CreateRunOptions(&created));
  Owner options(created, api.ReleaseRunOptions);
  const auto number = [&](const char* name, StatusHandle (*set)(Handle, int)) {
    const napi_value value = property(env, given, name);
    int32_t level = 0;
    if (!is_absent(env, value) && napi_get_value_int32(env, value, &level) == napi_ok) check(set(created, level));
  };
  number("logSeverityLevel", api.RunOptionsSetRunLogSeverityLevel);
  number("logVerbosityLevel", api.RunOptionsSetRunLogVerbosityLevel);
  if (const napi_value tag = property(env, given, "tag"); !is_absent(env, tag)) check(api.RunOptionsSetRunTag(created, text(env, tag).c_str()));
  return options;
}

// "1.30.0" -> {1, 30}
std::pair<int, int> major_and_minor(const char* version) {
  char* rest = nullptr;
  const long major = std::strtol(version, &rest, 10);
  return {static_cast<int>(major), *rest == '.' ? static_cast<int>(std::strtol(rest + 1, nullptr, 10)) : 0};
}

// Once for the process. Returns the library's version. The table of functions only grows, so newer libraries than those of the tests do.
std::string bind_library(const std::string& path) {
  static std::mutex mutex;
  static Library bound = nullptr;
  static std::string version;
  std::lock_guard<std::mutex> lock(mutex);
  Library library = loaded_library(path.c_str());
  if (library == nullptr) throw Failure{path + " is not loaded in this process: load onnxruntime-node first"};
  if (library == bound) return version;
  if (bound != nullptr) throw Failure{path + " is a second ONNX Runtime: this process uses another one (" + version + ") already"};
  const auto base_of = reinterpret_cast<const Base* (*)()>(library_function(library, "OrtGetApiBase"));
  if (base_of == nullptr) throw Failure{path + " is no ONNX Runtime: it has no OrtGetApiBase"};
  const std::string found = base_of()->version();
  // What is too old would answer `get_api` with a line on standard error.
  const bool is_old = major_and_minor(found.c_str()) < std::make_pair(1, static_cast<int>(kApiVersion));
  const void* const* table = is_old ? nullptr : base_of()->get_api(kApiVersion);
  if (table == nullptr)
    throw Failure{"ONNX Runtime " + found + (is_old ? " is too old; 1." + std::to_string(kApiVersion) + " or newer is needed"
                                                    : " has no longer the interface of 1." + std::to_string(kApiVersion))};
#define FOURIERFT_FUNCTION(name, slot, result, parameters) api.name = reinterpret_cast<decltype(api.name)>(const_cast<void*>(table[slot]));
  FOURIERFT_ONNXRUNTIME_FUNCTIONS(FOURIERFT_FUNCTION)
#undef FOURIERFT_FUNCTION
  check(api.CreateEnv(kWarning, "fourierft", &environment));
  operator_domain();
  bound = library;
  return version = found;
}

}  // namespace

napi_value open(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, [&](const napi_value* v) { return string(env, bind_library(text(env, v[0]))); });
}

// Opening loads the driver, which takes its time.
struct Opening : Job {
  std::string path;
  int devices = 0;
  void work() override { devices = cuda_library(path).devices; }
  napi_value result(napi_env env) override {
    napi_value count;
    napi_create_int32(env, devices, &count);
    return count;
  }
};

napi_value open_cuda(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, [&](const napi_value (&v)[1]) {
    auto job = std::make_unique<Opening>();
    job->path = text(env, v[0]);
    return start(env, std::move(job), v);
  });
}

napi_value create_session(napi_env env, napi_callback_info info) {
  return guarded<2>(env, info, [&](const napi_value (&v)[2]) {
    if (environment == nullptr) throw Failure{"open the ONNX Runtime first"};
    auto job = std::make_unique<Creation>(read_session_options(env, v[1]));
    napi_valuetype type = napi_undefined;
    napi_typeof(env, v[0], &type);
    if (type == napi_string) {
      job->path = std::filesystem::u8path(text(env, v[0]));
    } else {
      job->model = bytes(env, v[0]);
    }
    if (const napi_value library = property(env, v[1], "cudaLibrary"); !is_absent(env, library)) {
      job->cuda_library = text(env, library);
      job->cuda_settings = texts(env, property(env, v[1], "cudaSettings"));
    }
    return start(env, std::move(job), v);
  });
}

// All inputs of the session, in its order. There may be hundreds, and each call of JavaScript's values costs as much as a small layer: types,
// ranks and dims of all come as one array of doubles.
void read_inputs(napi_env env, napi_value shapes, napi_value data, Run& job) {
  const std::vector<Value>& expected = job.session->inputs;
  if (length_of(env, data) != expected.size()) throw Failure{"expected a tensor for each input"};
  const Bytes numbers = bytes(env, shapes);
  const double *next = static_cast<const double*>(numbers.data), *end = next + numbers.size / sizeof(double);
  std::vector<int64_t> dims;
  for (uint32_t i = 0; i < expected.size(); i++) {
    if (end - next < 2 || !(next[1] >= 0 && next[1] <= end - next - 2)) throw Failure{"expected the type, the rank and the dims of each input"};
    const int type = static_cast<int>(next[0]);
    const double* first = next + 2;
    next = first + static_cast<size_t>(next[1]);
    try {
      for (const double* dim = first; dim < next; dim++)
        if (!(std::fabs(*dim) <= 9007199254740991.0)) throw Failure{"expected dims that are integers"};
      dims.assign(first, next);
      job.inputs.push_back(read_tensor(env, type, dims, element(env, data, i)));
    } catch (const Failure& failure) {
      throw Failure{"input " + expected[i].name + ": " + failure.message};
    }
  }
}

napi_value run_session(napi_env env, napi_callback_info info) {
  return guarded<5>(env, info, [&](const napi_value (&v)[5]) {
    auto job = std::make_unique<Run>();
    job->session = session_of(env, v[0]);
    if (job->session == nullptr) throw Failure{"the session has been released"};
    read_inputs(env, v[1], v[2], *job);
    job->output_names = texts(env, v[3]);
    job->options = read_run_options(env, v[4]);
    return start(env, std::move(job), v);
  });
}

napi_value release_session(napi_env env, napi_callback_info info) {
  return guarded<1>(env, info, [&](const napi_value* v) -> napi_value {
    session_of(env, v[0]).reset();
    return nullptr;
  });
}

}  // namespace fourierft::onnxruntime
