// The part of ONNX Runtime's C API that the addon uses. The table of functions is append-only, so an index and a signature describe a function.
// Handles are opaque. Tests call every function listed here; on a machine without CUDA, those of the CUDA provider only fail.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>

#include "failure.h"

namespace fourierft {
struct CudaLibrary;
}

namespace fourierft::onnxruntime {

using Handle = void*;
using PathCharacter = std::filesystem::path::value_type;

// A failed call's status; null is success.
using StatusHandle = void*;

struct Base {
  const void* const* (*get_api)(uint32_t version);
  const char* (*version)();
};

// The required version of the interface: the first in which an operator can declare inputs that it works on in place.
constexpr uint32_t kApiVersion = 18;

// name, index in the table, result, parameters
#define FOURIERFT_ONNXRUNTIME_FUNCTIONS(F)                                                                                             \
  F(CreateStatus, 0, StatusHandle, (int code, const char* message))                                                                    \
  F(GetErrorMessage, 2, const char*, (StatusHandle))                                                                                   \
  F(CreateEnv, 3, StatusHandle, (int severity, const char* name, Handle* env))                                                         \
  F(CreateSession, 7, StatusHandle, (Handle env, const PathCharacter* path, Handle options, Handle* session))                          \
  F(CreateSessionFromArray, 8, StatusHandle, (Handle env, const void* data, size_t bytes, Handle options, Handle* session))            \
  F(Run, 9, StatusHandle,                                                                                                              \
    (Handle session, Handle options, const char* const* input_names, const Handle* inputs, size_t input_count,                         \
     const char* const* output_names, size_t output_count, Handle* outputs))                                                           \
  F(CreateSessionOptions, 10, StatusHandle, (Handle * options))                                                                        \
  F(SetOptimizedModelFilePath, 11, StatusHandle, (Handle options, const PathCharacter* path))                                          \
  F(SetSessionExecutionMode, 13, StatusHandle, (Handle options, int mode))                                                             \
  F(EnableProfiling, 14, StatusHandle, (Handle options, const PathCharacter* prefix))                                                  \
  F(EnableMemPattern, 16, StatusHandle, (Handle options))                                                                              \
  F(DisableMemPattern, 17, StatusHandle, (Handle options))                                                                             \
  F(EnableCpuMemArena, 18, StatusHandle, (Handle options))                                                                             \
  F(DisableCpuMemArena, 19, StatusHandle, (Handle options))                                                                            \
  F(SetSessionLogId, 20, StatusHandle, (Handle options, const char* id))                                                               \
  F(SetSessionLogVerbosityLevel, 21, StatusHandle, (Handle options, int level))                                                        \
  F(SetSessionLogSeverityLevel, 22, StatusHandle, (Handle options, int level))                                                         \
  F(SetSessionGraphOptimizationLevel, 23, StatusHandle, (Handle options, int level))                                                   \
  F(SetIntraOpNumThreads, 24, StatusHandle, (Handle options, int threads))                                                             \
  F(SetInterOpNumThreads, 25, StatusHandle, (Handle options, int threads))                                                             \
  F(CreateCustomOpDomain, 26, StatusHandle, (const char* domain, Handle* created))                                                     \
  F(CustomOpDomain_Add, 27, StatusHandle, (Handle domain, const struct Operator* op))                                                  \
  F(AddCustomOpDomain, 28, StatusHandle, (Handle options, Handle domain))                                                              \
  F(SessionGetInputCount, 30, StatusHandle, (Handle session, size_t * count))                                                          \
  F(SessionGetOutputCount, 31, StatusHandle, (Handle session, size_t * count))                                                         \
  F(SessionGetInputTypeInfo, 33, StatusHandle, (Handle session, size_t index, Handle* info))                                           \
  F(SessionGetOutputTypeInfo, 34, StatusHandle, (Handle session, size_t index, Handle* info))                                          \
  F(SessionGetInputName, 36, StatusHandle, (Handle session, size_t index, Handle allocator, char** name))                              \
  F(SessionGetOutputName, 37, StatusHandle, (Handle session, size_t index, Handle allocator, char** name))                             \
  F(CreateRunOptions, 39, StatusHandle, (Handle * options))                                                                            \
  F(RunOptionsSetRunLogVerbosityLevel, 40, StatusHandle, (Handle options, int level))                                                  \
  F(RunOptionsSetRunLogSeverityLevel, 41, StatusHandle, (Handle options, int level))                                                   \
  F(RunOptionsSetRunTag, 42, StatusHandle, (Handle options, const char* tag))                                                          \
  F(CreateTensorAsOrtValue, 48, StatusHandle, (Handle allocator, const int64_t* dims, size_t rank, int type, Handle* value))           \
  F(CreateTensorWithDataAsOrtValue, 49, StatusHandle,                                                                                  \
    (Handle memory, void* data, size_t bytes, const int64_t* dims, size_t rank, int type, Handle* value))                              \
  F(GetTensorMutableData, 51, StatusHandle, (Handle value, void** data))                                                               \
  F(FillStringTensor, 52, StatusHandle, (Handle value, const char* const* strings, size_t count))                                      \
  F(GetStringTensorDataLength, 53, StatusHandle, (Handle value, size_t * bytes))                                                       \
  F(GetStringTensorContent, 54, StatusHandle, (Handle value, void* text, size_t bytes, size_t* offsets, size_t count))                 \
  F(CastTypeInfoToTensorInfo, 55, StatusHandle, (Handle info, Handle * tensor_info))                                                   \
  F(GetTensorElementType, 60, StatusHandle, (Handle tensor_info, int* type))                                                           \
  F(GetDimensionsCount, 61, StatusHandle, (Handle tensor_info, size_t * rank))                                                         \
  F(GetDimensions, 62, StatusHandle, (Handle tensor_info, int64_t* dims, size_t rank))                                                 \
  F(GetSymbolicDimensions, 63, StatusHandle, (Handle tensor_info, const char** names, size_t rank))                                    \
  F(GetTensorShapeElementCount, 64, StatusHandle, (Handle tensor_info, size_t * count))                                                \
  F(GetTensorTypeAndShape, 65, StatusHandle, (Handle value, Handle * tensor_info))                                                     \
  F(GetValueType, 67, StatusHandle, (Handle value, int* type))                                                                         \
  F(CreateMemoryInfo, 68, StatusHandle, (const char* name, int allocator, int device, int memory, Handle* info))                       \
  F(CreateCpuMemoryInfo, 69, StatusHandle, (int allocator, int memory, Handle* info))                                                  \
  F(AllocatorFree, 76, StatusHandle, (Handle allocator, void* data))                                                                   \
  F(GetAllocatorWithDefaultOptions, 78, StatusHandle, (Handle * allocator))                                                            \
  F(KernelContext_GetInput, 90, StatusHandle, (Handle context, size_t index, Handle* value))                                           \
  F(KernelContext_GetOutput, 91, StatusHandle, (Handle context, size_t index, const int64_t* dims, size_t rank, Handle* value))        \
  F(ReleaseStatus, 93, void, (StatusHandle))                                                                                           \
  F(ReleaseMemoryInfo, 94, void, (Handle))                                                                                             \
  F(ReleaseSession, 95, void, (Handle))                                                                                                \
  F(ReleaseValue, 96, void, (Handle))                                                                                                  \
  F(ReleaseRunOptions, 97, void, (Handle))                                                                                             \
  F(ReleaseTypeInfo, 98, void, (Handle))                                                                                               \
  F(ReleaseTensorTypeAndShapeInfo, 99, void, (Handle))                                                                                 \
  F(ReleaseSessionOptions, 100, void, (Handle))                                                                                        \
  F(AddFreeDimensionOverrideByName, 124, StatusHandle, (Handle options, const char* name, int64_t value))                              \
  F(AddSessionConfigEntry, 130, StatusHandle, (Handle options, const char* key, const char* value))                                    \
  F(RunWithBinding, 133, StatusHandle, (Handle session, Handle options, Handle binding))                                               \
  F(CreateIoBinding, 134, StatusHandle, (Handle session, Handle * binding))                                                            \
  F(ReleaseIoBinding, 135, void, (Handle))                                                                                             \
  F(BindInput, 136, StatusHandle, (Handle binding, const char* name, Handle value))                                                    \
  F(BindOutputToDevice, 138, StatusHandle, (Handle binding, const char* name, Handle memory))                                          \
  F(GetBoundOutputValues, 140, StatusHandle, (Handle binding, Handle allocator, Handle** values, size_t* count))                       \
  F(KernelContext_GetGPUComputeStream, 193, StatusHandle, (Handle context, void** stream))                                             \
  F(SynchronizeBoundInputs, 202, StatusHandle, (Handle binding))                                                                       \
  F(SynchronizeBoundOutputs, 203, StatusHandle, (Handle binding))                                                                      \
  F(SessionOptionsAppendExecutionProvider_CUDA_V2, 204, StatusHandle, (Handle options, Handle cuda))                                   \
  F(CreateCUDAProviderOptions, 205, StatusHandle, (Handle * cuda))                                                                     \
  F(UpdateCUDAProviderOptions, 206, StatusHandle, (Handle cuda, const char* const* keys, const char* const* values, size_t count))     \
  F(ReleaseCUDAProviderOptions, 208, void, (Handle))                                                                                   \
  F(ShapeInferContext_GetInputTypeShape, 268, StatusHandle, (Handle context, size_t index, Handle* tensor_info))                       \
  F(ShapeInferContext_SetOutputTypeShape, 270, StatusHandle, (Handle context, size_t index, Handle tensor_info))                       \
  F(SetSymbolicDimensions, 271, StatusHandle, (Handle tensor_info, const char** names, size_t rank))                                   \
  F(KernelContext_ParallelFor, 274, StatusHandle,                                                                                      \
    (Handle context, void (*body)(void*, size_t), size_t total, size_t batches, void* argument))

struct Api {
#define FOURIERFT_FUNCTION(name, slot, result, parameters) result(*name) parameters;
  FOURIERFT_ONNXRUNTIME_FUNCTIONS(FOURIERFT_FUNCTION)
#undef FOURIERFT_FUNCTION
};

// Filled by `open`, once for the process.
extern Api api;

// Throws an exception with ONNX Runtime's message if the call failed.
inline void check(StatusHandle status) {
  if (status == nullptr) return;
  Failure failure{api.GetErrorMessage(status)};
  api.ReleaseStatus(status);
  throw failure;
}

// `OrtCustomOp`; its layout is part of the C API.
struct Operator {
  uint32_t version;
  Handle (*create)(const Operator*, const void* api, Handle info);
  const char* (*name)(const Operator*);
  const char* (*provider)(const Operator*);
  int (*input_type)(const Operator*, size_t index);
  size_t (*input_count)(const Operator*);
  int (*output_type)(const Operator*, size_t index);
  size_t (*output_count)(const Operator*);
  void (*compute)(Handle kernel, Handle context);
  void (*destroy)(Handle kernel);
  int (*input_characteristic)(const Operator*, size_t index);
  int (*output_characteristic)(const Operator*, size_t index);
  int (*input_memory)(const Operator*, size_t index);
  int (*variadic_input_minimum)(const Operator*);
  int (*variadic_input_homogeneous)(const Operator*);
  int (*variadic_output_minimum)(const Operator*);
  int (*variadic_output_homogeneous)(const Operator*);
  StatusHandle (*create_checked)(const Operator*, const void* api, Handle info, Handle* kernel);
  StatusHandle (*compute_checked)(Handle kernel, Handle context);
  StatusHandle (*infer_shape)(const Operator*, Handle context);
  int (*first_version)(const Operator*);
  int (*last_version)(const Operator*);
  size_t (*in_place)(int** inputs, int** outputs);
  void (*release_in_place)(int* inputs, int* outputs);
  size_t (*aliases)(int** inputs, int** outputs);
  void (*release_aliases)(int* inputs, int* outputs);
};

// ONNXTensorElementDataType
enum Type { kFloat = 1, kInt64 = 7, kString = 8, kFloat16 = 10, kBfloat16 = 16 };

// The domain `fourierft` with the operators FourierFT and FourierFTGrad, on a CPU or with a library of CUDA kernels. Each domain is made once
// for the process.
Handle operator_domain(const CudaLibrary* cuda = nullptr);

}  // namespace fourierft::onnxruntime
