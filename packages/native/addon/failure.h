// An exception that becomes an error of JavaScript or a status of ONNX Runtime.
#pragma once

#include <string>

namespace fourierft {

struct Failure {
  std::string problem;
  const char* code = nullptr;  // the code of the JavaScript error; null for none
  std::string advice = "";     // what the caller can do; empty for none
  std::string tensor = "";     // the name of the input or output that is wrong; empty for none

  std::string message() const { return advice.empty() ? problem : problem + "; " + advice; }
};

}  // namespace fourierft
