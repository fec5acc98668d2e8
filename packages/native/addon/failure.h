// What went wrong, on its way to JavaScript or to ONNX Runtime.
#pragma once

#include <string>

namespace fourierft {

struct Failure {
  std::string message;
  const char* code = nullptr;  // of JavaScript's error, where it has one
};

}  // namespace fourierft
