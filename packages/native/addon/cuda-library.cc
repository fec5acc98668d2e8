#include "cuda-library.h"

#include <map>
#include <memory>
#include <mutex>

#include "failure.h"
#include "library.h"

namespace fourierft {

std::string CudaLibrary::text_of(fourierft_cuda_status status) const {
  switch (status) {
    case FOURIERFT_CUDA_OUT_OF_MEMORY: return "the device does not have enough memory";
    case FOURIERFT_CUDA_SHARED_MEMORY: return "a row of this layer does not fit the shared memory of this device";
    case FOURIERFT_CUDA_FAILED: return std::string("CUDA: ") + problem();
    default: return "the kernel rejected its arguments";
  }
}

namespace {

std::unique_ptr<CudaLibrary> load(const std::string& path) {
  std::string problem;
  const Library library = open_library(path.c_str(), problem);
  if (library == nullptr) throw Failure{problem, "UNSUPPORTED"};
  const auto version = reinterpret_cast<decltype(&fourierft_cuda_abi_version)>(library_function(library, "fourierft_cuda_abi_version"));
  auto result = std::make_unique<CudaLibrary>();
  bool complete = version != nullptr && version() == FOURIERFT_CUDA_ABI_VERSION;
#define FOURIERFT_CUDA_FUNCTION(function, name)                                                        \
  result->name = reinterpret_cast<decltype(&function)>(library_function(library, #function)); \
  complete = complete && result->name != nullptr;
  FOURIERFT_CUDA_FUNCTIONS(FOURIERFT_CUDA_FUNCTION)
#undef FOURIERFT_CUDA_FUNCTION
  if (!complete) throw Failure{path + " is of another version of this package", "UNSUPPORTED", "build it again"};
  const fourierft_cuda_status status = result->device_count(&result->devices);
  if (status != FOURIERFT_CUDA_OK || result->devices == 0)
    throw Failure{std::string("no CUDA device") + (status == FOURIERFT_CUDA_FAILED ? std::string(": ") + result->problem() : ""), "UNSUPPORTED"};
  return result;
}

}  // namespace

const CudaLibrary& open_cuda_library(const std::string& path) {
  static std::mutex mutex;
  static auto& libraries = *new std::map<std::string, std::unique_ptr<CudaLibrary>>;
  std::lock_guard<std::mutex> lock(mutex);
  std::unique_ptr<CudaLibrary>& library = libraries[path];
  if (library == nullptr) library = load(path);
  return *library;
}

}  // namespace fourierft
