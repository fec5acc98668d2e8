// ONNX Runtime's binding: sessions of the user's own libonnxruntime in which the operators of this addon are known.
#pragma once

#define NAPI_VERSION 8
#include <node_api.h>

namespace fourierft::onnxruntime {

// openOnnxRuntime(path of libonnxruntime): its version. Throws UNSUPPORTED where the library is not loaded or too old.
napi_value open(napi_env env, napi_callback_info info);

// openCudaLibrary(path): Promise<number of devices>. Rejects with UNSUPPORTED where its kernels cannot be used.
napi_value open_cuda(napi_env env, napi_callback_info info);

// createOnnxSession(path | Uint8Array, options): Promise<{ handle, inputs, outputs }>
napi_value create_session(napi_env env, napi_callback_info info);

// runOnnxSession(handle, inputNames, inputs, outputNames, options): Promise<outputs>
napi_value run_session(napi_env env, napi_callback_info info);

// releaseOnnxSession(handle): frees it when its last run is done.
napi_value release_session(napi_env env, napi_callback_info info);

}  // namespace fourierft::onnxruntime
