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

// runOnnxSession(handle, shapes, data, outputNames, options, done(error, outputs))
napi_value run_session(napi_env env, napi_callback_info info);

// releaseOnnxSession(handle): frees the session when its last run is done.
napi_value release_session(napi_env env, napi_callback_info info);

// The number of sessions in the process.
size_t session_count();

}  // namespace fourierft::onnxruntime
