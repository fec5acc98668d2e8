// Registers the operators FourierFT and FourierFTGrad in the TensorFlow that the process has loaded, through its stable C API.
#pragma once

#include <string>

namespace fourierft {

// Returns an empty string, or what went wrong. `library` is the path of libtensorflow_framework as the process has it loaded.
std::string register_tensorflow_operators(const std::string& library);

}  // namespace fourierft
