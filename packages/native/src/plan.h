// A plan holds everything that depends only on the shape and the entries: factorised transforms with their twiddles, the frequencies that
// entries use, and the entries sorted for each direction. It is plain data without SIMD, so every kernel (CPU of any width, GPU) reads
// the same plan.
#pragma once

#include <cstdint>
#include <vector>

namespace fourierft {

// A complex transform Z[k] = sum_m z[m] e(mk/n), e(t) = exp(2 pi i t), over mixed radices. Forwards it decimates in frequency (natural
// order in, `position` order out), backwards in time (`position` order in, natural order out), so nothing has to be reordered.
struct Stage {
  int radix;
  int length;                  // of the sub-transforms that this stage splits
  std::vector<float> twiddles; // for i = 0 ... length/radix - 1, k = 1 ... radix-1: cos, sin of 2 pi ik/length
  std::vector<float> roots;    // cos, sin of 2 pi m/radix, for odd radices
};

struct Transform {
  int n = 0;
  std::vector<Stage> stages;
  std::vector<int> position;   // of frequency k

  // Bluestein's algorithm if n has a large prime factor: a convolution of length inner.front().n with a chirp.
  std::vector<Transform> inner;       // empty, or the one transform of the convolution
  std::vector<float> chirp;           // cos, sin of 2 pi (m^2/2)/n, m = 0 ... n-1
  std::vector<float> chirp_spectrum;  // transform of the conjugate chirp, in the inner transform's position order, divided by its length

  int work() const { return inner.empty() ? 0 : inner.front().n; } // complex numbers of scratch
};

// How one used frequency is computed from a half-length complex transform of real data.
struct Split {
  int a, b;        // positions of Z[k] and Z[N-k]
  float cos, sin;  // of 2 pi k/d
};

// How one point of the packed half-length spectrum is computed from used frequencies. The slot of an unused frequency holds a zero.
struct Pack {
  int a, b;        // slots of S[j] and S[N-j]
  float cos, sin;  // of 2 pi j/d
  int position;    // in the transform
};

// One dimension of the layer.
struct Side {
  int d = 0;
  bool is_half_length = false;       // even d: the transform has length d/2, with two real numbers in each complex one
  Transform transform;               // of length d/2 or d
  std::vector<int> frequencies;      // used by an entry, folded to 0 ... d/2, ascending; a frequency's index is its slot
  std::vector<Split> splits;         // one for each used frequency
  std::vector<Pack> packs;           // one for each point if `is_half_length`, else one for each used frequency

  // If kResidues divides d, a single token fills all lanes: number p of its row becomes number p/kResidues of row p % kResidues, and
  // `residue_side` transforms these rows side by side. All its frequencies are used. They are multiplied by `residue_twiddles` and combined by
  // transforms across the lanes, which write frequency k + m d/kResidues, k = 0 ... d/(2 kResidues), to a grid of blocks
  // [k / 8][m][real, imaginary][k % 8].
  std::vector<Side> residue_side;    // empty, or one side of d/kResidues
  std::vector<float> residue_twiddles;  // for each frequency k of `residue_side`: cos, then sin, of 2 pi rk/d for all residues r
  int spectrum_size = 0;             // numbers in the grid of one token or, without `residue_side`, in its slots
  int imaginary = 1;                 // the distance from a real part to its imaginary part in the grid or slots
};

constexpr int kResidues = 8;

// An entry in the sparse step of a single token: the indices of the real parts of its frequencies in the spectra of both sides.
struct Link {
  int in, out;
  float sign;  // of the imaginary part
};

// An entry as a term of a slot's sum: the index of the real part of its frequency in the other side's slots (the imaginary part follows), the
// sign of the imaginary part, and the index l of the entry.
struct Term {
  int real;
  float sign;
  int entry;
};

struct Terms {
  std::vector<Term> terms;   // sorted by this side's slot, then by entry
  std::vector<int> start;    // the first term of each slot, and the end of the last
};

// How a transform is split into stages. `cpu`: radices up to 8, large ones first. `few_stages`: radix 16 too, large ones last, so that the threads of a
// GPU access different banks of shared memory in each stage.
enum class Radices { cpu, few_stages };

struct Plan {
  int d1, d2, n;
  Side out, in;              // of d1 and of d2
  Terms by_row, by_column;   // by_row sums `in` slots into `out` slots; by_column sums `out` slots into `in` slots
  std::vector<Link> links;   // of each entry
  std::vector<float> unit_roots;  // cos, sin of 2 pi m/d1: transforms of unit vectors, for dW

  Plan(int d1, int d2, int n, const uint32_t* rows, const uint32_t* columns, Radices radices = Radices::cpu);
};

}  // namespace fourierft
