// Sessions of the user's own libonnxruntime with the operators of this addon.
#pragma once

#include "javascript.h"

namespace fourierft::onnxruntime {

// openOnnxRuntime(path of libonnxruntime): returns its version. Throws UNSUPPORTED if the library is not loaded or too old.
napi_value open_onnxruntime(napi_env env, napi_callback_info info);

// openCudaLibrary(path, done(error, number of devices)). The error is UNSUPPORTED if the kernels cannot be used.
napi_value open_cuda(napi_env env, napi_callback_info info);

// createOnnxSession(path | Uint8Array, options, done(error, { handle, inputs, outputs }))
napi_value create_session(napi_env env, napi_callback_info info);

// runOnnxSession(handle, shapes, data, outputNames, options, { inputs, outputs } | null, done(error, outputs)): the last but one argument names
// the inputs and outputs on the session's device.
napi_value run_session(napi_env env, napi_callback_info info);

// readDeviceValue(handle, done(error, bytes)): copies a value from its device.
napi_value read_device_value(napi_env env, napi_callback_info info);

// releaseDeviceValue(handle): frees the value when the last call that uses it is done.
napi_value release_device_value(napi_env env, napi_callback_info info);

// releaseOnnxSession(handle): frees the session when its last run is done.
napi_value release_session(napi_env env, napi_callback_info info);

// The numbers of sessions and of values on devices in the process.
size_t session_count();
size_t device_value_count();

}  // namespace fourierft::onnxruntime
