// The operators FourierFT and FourierFTGrad in the TensorFlow that the process has loaded, through its stable C API.
#pragma once

#include <string>

namespace fourierft {

// Registers the operators, once for the process. `library` is the path of the loaded libtensorflow_framework. Throws UNSUPPORTED if it is not
// loaded or lacks a function.
void register_tensorflow_operators(const std::string& library);

}  // namespace fourierft
