#include "plan.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace fourierft {
namespace {

constexpr double kPi = 3.14159265358979323846;
// A prime radix p costs p operations for each number. Bluestein's two inner transforms cost as much as a prime radix of about 40.
constexpr int kMaxRadix = 61;

struct UnitRoot {
  double cos, sin;
};

// cos and sin of 2 pi m/n. The angle is reduced exactly to the first octant, so that symmetric points are symmetric bit for bit.
UnitRoot unit_root(int64_t m, int64_t n) {
  m %= n;
  if (2 * m > n) {
    const UnitRoot u = unit_root(n - m, n);
    return {u.cos, -u.sin};
  }
  if (4 * m > n) {
    // cos(2 pi m/n) = -cos(2 pi (n/2 - m)/n); with 2n as the denominator all numbers are integers
    const double angle = kPi * static_cast<double>(n - 2 * m) / static_cast<double>(n);
    return {-std::cos(angle), std::sin(angle)};
  }
  if (8 * m > n) {
    const double angle = kPi * static_cast<double>(n - 4 * m) / static_cast<double>(2 * n);
    return {std::sin(angle), std::cos(angle)};
  }
  const double angle = 2 * kPi * static_cast<double>(m) / static_cast<double>(n);
  return {std::cos(angle), std::sin(angle)};
}

void push(std::vector<float>& table, UnitRoot u) {
  table.push_back(static_cast<float>(u.cos));
  table.push_back(static_cast<float>(u.sin));
}

// Finds the radices of n, large ones first because they save passes. Returns false if a prime factor is too large.
bool factorise(int n, int largest_radix, std::vector<int>& radices) {
  for (int radix : {16, 8, 6, 4, 3, 2, 5, 7}) {
    while (radix <= largest_radix && n % radix == 0 && n > 1) {
      radices.push_back(radix);
      n /= radix;
    }
  }
  for (int prime = 11; prime <= kMaxRadix && n > 1; prime += 2) {
    while (n % prime == 0) {
      radices.push_back(prime);
      n /= prime;
    }
  }
  return n == 1;
}

// Finds the radices of n for a GPU: primes over 8 first, then ascending, 16 last.
bool factorise_in_few_stages(int n, std::vector<int>& radices) {
  if (!factorise(n, 16, radices)) return false;
  const auto two = std::find(radices.begin(), radices.end(), 2), sixteen = std::find(radices.begin(), radices.end(), 16);
  if (two != radices.end() && sixteen != radices.end()) {
    *two = 4;
    *sixteen = 8;
  }
  const auto is_prime_over_8 = [](int radix) { return radix > 8 && radix != 16; };
  std::sort(radices.begin(), radices.end(),
            [&](int a, int b) { return std::make_pair(!is_prime_over_8(a), a) < std::make_pair(!is_prime_over_8(b), b); });
  return true;
}

Transform make_transform(int n, Radices kind) {
  Transform transform;
  transform.n = n;
  transform.position.resize(n);
  std::vector<int> radices;
  if (kind == Radices::cpu ? factorise(n, 8, radices) : factorise_in_few_stages(n, radices)) {
    int length = n;
    for (int radix : radices) {
      Stage stage{radix, length, {}, {}};
      const int quotient = length / radix;
      for (int i = 0; i < quotient; i++)
        for (int k = 1; k < radix; k++) push(stage.twiddles, unit_root(static_cast<int64_t>(i) * k, length));
      if (radix % 2 == 1)
        for (int m = 0; m < radix; m++) push(stage.roots, unit_root(m, radix));
      transform.stages.push_back(std::move(stage));
      length = quotient;
    }
    for (int k = 0; k < n; k++) {
      int rest = k, span = n, position = 0;
      for (int radix : radices) {
        span /= radix;
        position += rest % radix * span;
        rest /= radix;
      }
      transform.position[k] = position;
    }
    return transform;
  }
  int convolution = 1;
  while (convolution < 2 * n - 1) convolution *= 2;
  transform.inner.push_back(make_transform(convolution, kind));
  const Transform& inner = transform.inner.front();
  std::iota(transform.position.begin(), transform.position.end(), 0);
  for (int64_t m = 0; m < n; m++) push(transform.chirp, unit_root(m * m, 2 * static_cast<int64_t>(n)));
  // The spectrum of the wrapped conjugate chirp, in double precision, by a radix-2 transform; computed once for each plan.
  std::vector<double> re(convolution, 0), im(convolution, 0);
  for (int64_t m = 0; m < n; m++) {
    const UnitRoot u = unit_root(m * m, 2 * static_cast<int64_t>(n));
    re[m] = u.cos;
    im[m] = -u.sin;
    if (m > 0) {
      re[convolution - m] = u.cos;
      im[convolution - m] = -u.sin;
    }
  }
  for (int half = convolution / 2; half >= 1; half /= 2)
    for (int base = 0; base < convolution; base += 2 * half)
      for (int i = 0; i < half; i++) {
        const UnitRoot w = unit_root(i, 2 * static_cast<int64_t>(half));
        double &ar = re[base + i], &ai = im[base + i], &br = re[base + i + half], &bi = im[base + i + half];
        const double dr = ar - br, di = ai - bi;
        ar += br;
        ai += bi;
        br = dr * w.cos - di * w.sin;
        bi = dr * w.sin + di * w.cos;
      }
  int bits = 0;
  while ((1 << bits) < convolution) bits++;
  transform.chirp_spectrum.resize(2 * static_cast<size_t>(convolution));
  for (int k = 0; k < convolution; k++) {
    int reversed = 0;
    for (int bit = 0; bit < bits; bit++) reversed |= (k >> bit & 1) << (bits - 1 - bit);
    const int position = inner.position[k];
    transform.chirp_spectrum[2 * position] = static_cast<float>(re[reversed] / convolution);
    transform.chirp_spectrum[2 * position + 1] = static_cast<float>(im[reversed] / convolution);
  }
  return transform;
}

int fold(int frequency, int d) { return 2 * frequency > d ? d - frequency : frequency; }

// `frequencies`: ascending, distinct, in 0 ... d/2.
Side make_side(int d, std::vector<int> frequencies, Radices kind) {
  Side side;
  side.d = d;
  side.is_half_length = d % 2 == 0;
  side.transform = make_transform(side.is_half_length ? d / 2 : d, kind);
  side.frequencies = std::move(frequencies);

  const std::vector<int>& position = side.transform.position;
  const int half = d / 2, used = static_cast<int>(side.frequencies.size());
  for (int slot = 0; slot < used; slot++) {
    const int k = side.frequencies[slot];
    const UnitRoot w = unit_root(k, d);
    if (side.is_half_length) {
      side.splits.push_back({position[k % half], position[(half - k) % half], static_cast<float>(w.cos), static_cast<float>(w.sin)});
    } else {
      side.splits.push_back({position[k], 0, 0, 0});
      side.packs.push_back({slot, 0, 0, 0, position[k]});
    }
  }
  if (side.is_half_length) {
    std::vector<int> slot_of(half + 1, used);  // slot `used` holds a zero
    for (int slot = 0; slot < used; slot++) slot_of[side.frequencies[slot]] = slot;
    for (int j = 0; j < half; j++) {
      const UnitRoot w = unit_root(j, d);
      side.packs.push_back({slot_of[j], slot_of[half - j], static_cast<float>(w.cos), static_cast<float>(w.sin), position[j]});
    }
  }
  std::sort(side.packs.begin(), side.packs.end(), [](const Pack& a, const Pack& b) { return a.position < b.position; });
  side.spectrum_size = 2 * used + 2;
  return side;
}

// `indices`: one coordinate of each entry.
Side make_layer_side(int d, int n, const uint32_t* indices, Radices kind) {
  std::vector<int> frequencies;
  for (int l = 0; l < n; l++) frequencies.push_back(fold(static_cast<int>(indices[l]), d));
  std::sort(frequencies.begin(), frequencies.end());
  frequencies.erase(std::unique(frequencies.begin(), frequencies.end()), frequencies.end());
  Side side = make_side(d, std::move(frequencies), kind);
  if (d % kResidues != 0) return side;

  std::vector<int> all(d / kResidues / 2 + 1);
  std::iota(all.begin(), all.end(), 0);
  for (const int k : all) {
    for (int64_t r = 0; r < kResidues; r++) side.residue_twiddles.push_back(static_cast<float>(unit_root(r * k, d).cos));
    for (int64_t r = 0; r < kResidues; r++) side.residue_twiddles.push_back(static_cast<float>(unit_root(r * k, d).sin));
  }
  side.spectrum_size = (static_cast<int>(all.size()) + 7) / 8 * 2 * 8 * kResidues;
  side.imaginary = 8;
  side.residue_side.push_back(make_side(d / kResidues, std::move(all), kind));
  return side;
}

int slot_of(const Side& side, int frequency) {
  const auto slot = std::lower_bound(side.frequencies.begin(), side.frequencies.end(), frequency);
  return static_cast<int>(slot - side.frequencies.begin());
}

// The index of the real part of a frequency, or of its conjugate at d - frequency, in the spectrum of a single token.
struct SpectrumIndex {
  int real;
  bool is_conjugate;
};

SpectrumIndex spectrum_index_of(const Side& side, int frequency) {
  const int d = side.d;
  if (side.residue_side.empty()) return {2 * slot_of(side, fold(frequency, d)), 2 * frequency > d};
  const int eighth = d / kResidues;
  const bool conjugate = 2 * (frequency % eighth) > eighth;
  const int stored = conjugate ? d - frequency : frequency, k = stored % eighth, m = stored / eighth;
  return {(k / 8 * kResidues + m) * 16 + k % 8, conjugate};
}

// Makes the terms that sum `source` slots into `target` slots. `rows` and `columns`: the frequencies of the entries on the target's and the
// source's side.
Terms make_terms(const Side& target, const uint32_t* rows, const Side& source, const uint32_t* columns, int n) {
  std::vector<int> order(n), slot_of_entry(n);
  std::iota(order.begin(), order.end(), 0);
  for (int l = 0; l < n; l++) slot_of_entry[l] = slot_of(target, fold(static_cast<int>(rows[l]), target.d));
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return slot_of_entry[a] < slot_of_entry[b]; });
  Terms result;
  result.start.assign(target.frequencies.size() + 1, 0);
  for (int l : order) {
    const int row = static_cast<int>(rows[l]), column = static_cast<int>(columns[l]);
    const bool is_conjugate = (2 * row > target.d) != (2 * column > source.d);
    result.terms.push_back({2 * slot_of(source, fold(column, source.d)), is_conjugate ? -1.f : 1.f, l});
    result.start[slot_of_entry[l] + 1]++;
  }
  for (size_t slot = 1; slot < result.start.size(); slot++) result.start[slot] += result.start[slot - 1];
  return result;
}

}  // namespace

Plan::Plan(int d1_, int d2_, int n_, const uint32_t* rows, const uint32_t* columns, Radices kind)
    : d1(d1_), d2(d2_), n(n_), out(make_layer_side(d1_, n_, rows, kind)), in(make_layer_side(d2_, n_, columns, kind)),
      by_row(make_terms(out, rows, in, columns, n_)), by_column(make_terms(in, columns, out, rows, n_)) {
  for (int l = 0; l < n; l++) {
    const SpectrumIndex in_index = spectrum_index_of(in, static_cast<int>(columns[l]));
    const SpectrumIndex out_index = spectrum_index_of(out, static_cast<int>(rows[l]));
    links.push_back({in_index.real, out_index.real, in_index.is_conjugate != out_index.is_conjugate ? -1.f : 1.f});
  }
  for (int m = 0; m < d1; m++) push(unit_roots, unit_root(m, d1));
}

}  // namespace fourierft
