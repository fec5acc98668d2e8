// An error on its way to JavaScript or to ONNX Runtime.
#pragma once

#include <string>

namespace fourierft {

struct Failure {
  std::string problem;
  const char* code = nullptr;  // of JavaScript's error, if it has one
  std::string advice = "";     // what the caller can do, if there is anything

  std::string message() const { return advice.empty() ? problem : problem + "; " + advice; }
};

}  // namespace fourierft
