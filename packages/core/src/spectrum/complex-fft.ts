/**
 * Complex Fourier transforms of any length, in float64: `Z[k] = Σ_m z[m]·e(m·k/N)` with `e(t) = exp(+2πi·t)` and no factor. FourierFT
 * uses this sign in both directions and in its gradients, so the other sign is not offered.
 *
 * Stockham's form: each pass writes from one of two buffers into the other and keeps the natural order, so no bit reversal is needed.
 * Radices 8, 4, 2, 3, 5 and 7 are straight-line code, other small primes a direct product, and lengths with a large prime factor use
 * Bluestein's chirp. Real and imaginary parts are separate `Float64Array`s everywhere, which keeps the loops monomorphic in V8.
 */
import { unitCircle } from './unit-circle.js'

/** Fill `inputRe` and `inputIm`, call `run`, read `outputRe` and `outputIm`. `run` overwrites the input. */
export interface ComplexFft {
  readonly length: number
  readonly inputRe: Float64Array
  readonly inputIm: Float64Array
  readonly outputRe: Float64Array
  readonly outputIm: Float64Array
  run(): void
}

/** A pass of length `n` at stride `s`. `wr` and `wi` hold the unit circle of the whole length `N = n·s`. */
type Pass = (
  xr: Float64Array,
  xi: Float64Array,
  yr: Float64Array,
  yi: Float64Array,
  n: number,
  s: number,
  wr: Float64Array,
  wi: Float64Array,
) => void

const SQRT_HALF = Math.SQRT1_2
// cos and sin of 2π·a/r, r = 3, 5, 7.
const SIN3 = 0.8660254037844386
const COS5_1 = 0.30901699437494745
const COS5_2 = -0.8090169943749475
const SIN5_1 = 0.9510565162951535
const SIN5_2 = 0.5877852522924731
const COS7_1 = 0.6234898018587335
const COS7_2 = -0.2225209339563144
const COS7_3 = -0.9009688679024191
const SIN7_1 = 0.7818314824680298
const SIN7_2 = 0.9749279121818236
const SIN7_3 = 0.4338837391175581

/** Up to this prime, a direct pass is faster than Bluestein's two transforms of more than twice the length. */
const LARGEST_DIRECT_PRIME = 61

/** Makes a plan for transforms of `length` points (at least 1). A plan owns its buffers; cache it with `cachedPlan`. */
export function complexFft(length: number): ComplexFft {
  const factors = factorize(length)
  return Math.max(...factors) > LARGEST_DIRECT_PRIME ? bluesteinFft(length) : stockhamFft(length, factors)
}

/** Estimates the nanoseconds of `run`. `chooseStrategy` uses it; `strategy.ts` describes the measurement. */
export function complexFftTime(length: number): number {
  const factors = factorize(length)
  if (Math.max(...factors) > LARGEST_DIRECT_PRIME) {
    const inner = smoothLengthFrom(2 * length - 1)
    return 2 * complexFftTime(inner) + 4 * inner
  }
  let time = 0
  for (const radix of factors)
    time += length * (radix in STRAIGHT_PASSES ? 0.72 * Math.log2(radix) : 0.55 * radix)
  return time
}

/**
 * Returns the radices in the order of the passes: odd primes first, so that later passes do not write at strides of powers of two (which map to
 * the same cache lines), then eights, then fours or a two.
 */
function factorize(length: number): number[] {
  const odd: number[] = []
  const even: number[] = []
  let rest = length
  for (const radix of [8, 4, 2]) {
    for (; rest % radix === 0; rest /= radix) even.push(radix)
  }
  for (let prime = 3; prime * prime <= rest; prime += 2) {
    for (; rest % prime === 0; rest /= prime) odd.push(prime)
  }
  if (rest > 1) odd.push(rest)
  // 8·2 is slower than 4·4.
  const two = even.indexOf(2)
  if (two > 0) even.splice(two - 1, 2, 4, 4)
  return [...odd, ...even]
}

function stockhamFft(length: number, factors: readonly number[]): ComplexFft {
  const { cos, sin } = unitCircle(length)
  const aRe = new Float64Array(length)
  const aIm = new Float64Array(length)
  const bRe = new Float64Array(length)
  const bIm = new Float64Array(length)
  const passes = factors.map((radix) => STRAIGHT_PASSES[radix] ?? primePass(radix))
  const odd = factors.length % 2 === 1
  return {
    length,
    inputRe: aRe,
    inputIm: aIm,
    outputRe: odd ? bRe : aRe,
    outputIm: odd ? bIm : aIm,
    run() {
      let n = length
      for (let i = 0; i < passes.length; i++) {
        const pass = passes[i]
        if (i % 2 === 0) pass(aRe, aIm, bRe, bIm, n, length / n, cos, sin)
        else pass(bRe, bIm, aRe, aIm, n, length / n, cos, sin)
        n /= factors[i]
      }
    },
  }
}

/*
 * One pass of radix r, decimation in frequency: with m = n/r, for p < m and q < s,
 *   y[q + s(r·p + b)] = e(p·b/n) · Σ_a x[q + s(p + m·a)] · e(a·b/r),     e(p·b/n) = w[p·b·s].
 */

const pass2: Pass = (xr, xi, yr, yi, n, s, wr, wi) => {
  const m = n / 2
  const sm = s * m
  for (let p = 0; p < m; p++) {
    const w1r = wr[p * s]
    const w1i = wi[p * s]
    let i = s * p
    let o = 2 * i
    for (let q = 0; q < s; q++, i++, o++) {
      const ar = xr[i]
      const ai = xi[i]
      const br = xr[i + sm]
      const bi = xi[i + sm]
      const dr = ar - br
      const di = ai - bi
      yr[o] = ar + br
      yi[o] = ai + bi
      yr[o + s] = dr * w1r - di * w1i
      yi[o + s] = dr * w1i + di * w1r
    }
  }
}

const pass3: Pass = (xr, xi, yr, yi, n, s, wr, wi) => {
  const m = n / 3
  const sm = s * m
  for (let p = 0; p < m; p++) {
    const w1r = wr[p * s]
    const w1i = wi[p * s]
    const w2r = wr[2 * p * s]
    const w2i = wi[2 * p * s]
    let i = s * p
    let o = 3 * i
    for (let q = 0; q < s; q++, i++, o++) {
      const ar = xr[i]
      const ai = xi[i]
      const sr = xr[i + sm] + xr[i + 2 * sm]
      const si = xi[i + sm] + xi[i + 2 * sm]
      const dr = SIN3 * (xr[i + sm] - xr[i + 2 * sm])
      const di = SIN3 * (xi[i + sm] - xi[i + 2 * sm])
      const cr = ar - 0.5 * sr
      const ci = ai - 0.5 * si
      yr[o] = ar + sr
      yi[o] = ai + si
      const ur = cr - di
      const ui = ci + dr
      const vr = cr + di
      const vi = ci - dr
      yr[o + s] = ur * w1r - ui * w1i
      yi[o + s] = ur * w1i + ui * w1r
      yr[o + 2 * s] = vr * w2r - vi * w2i
      yi[o + 2 * s] = vr * w2i + vi * w2r
    }
  }
}

const pass4: Pass = (xr, xi, yr, yi, n, s, wr, wi) => {
  const m = n / 4
  const sm = s * m
  for (let p = 0; p < m; p++) {
    const w1r = wr[p * s]
    const w1i = wi[p * s]
    const w2r = wr[2 * p * s]
    const w2i = wi[2 * p * s]
    const w3r = wr[3 * p * s]
    const w3i = wi[3 * p * s]
    let i = s * p
    let o = 4 * i
    for (let q = 0; q < s; q++, i++, o++) {
      const ar = xr[i]
      const ai = xi[i]
      const br = xr[i + sm]
      const bi = xi[i + sm]
      const cr = xr[i + 2 * sm]
      const ci = xi[i + 2 * sm]
      const dr = xr[i + 3 * sm]
      const di = xi[i + 3 * sm]
      const t0r = ar + cr
      const t0i = ai + ci
      const t1r = ar - cr
      const t1i = ai - ci
      const t2r = br + dr
      const t2i = bi + di
      const t3r = di - bi
      const t3i = br - dr
      yr[o] = t0r + t2r
      yi[o] = t0i + t2i
      const y1r = t1r + t3r
      const y1i = t1i + t3i
      yr[o + s] = y1r * w1r - y1i * w1i
      yi[o + s] = y1r * w1i + y1i * w1r
      const y2r = t0r - t2r
      const y2i = t0i - t2i
      yr[o + 2 * s] = y2r * w2r - y2i * w2i
      yi[o + 2 * s] = y2r * w2i + y2i * w2r
      const y3r = t1r - t3r
      const y3i = t1i - t3i
      yr[o + 3 * s] = y3r * w3r - y3i * w3i
      yi[o + 3 * s] = y3r * w3i + y3i * w3r
    }
  }
}

const pass5: Pass = (xr, xi, yr, yi, n, s, wr, wi) => {
  const m = n / 5
  const sm = s * m
  for (let p = 0; p < m; p++) {
    const w1r = wr[p * s]
    const w1i = wi[p * s]
    const w2r = wr[2 * p * s]
    const w2i = wi[2 * p * s]
    const w3r = wr[3 * p * s]
    const w3i = wi[3 * p * s]
    const w4r = wr[4 * p * s]
    const w4i = wi[4 * p * s]
    let i = s * p
    let o = 5 * i
    for (let q = 0; q < s; q++, i++, o++) {
      const x0r = xr[i]
      const x0i = xi[i]
      const s1r = xr[i + sm] + xr[i + 4 * sm]
      const s1i = xi[i + sm] + xi[i + 4 * sm]
      const d1r = xr[i + sm] - xr[i + 4 * sm]
      const d1i = xi[i + sm] - xi[i + 4 * sm]
      const s2r = xr[i + 2 * sm] + xr[i + 3 * sm]
      const s2i = xi[i + 2 * sm] + xi[i + 3 * sm]
      const d2r = xr[i + 2 * sm] - xr[i + 3 * sm]
      const d2i = xi[i + 2 * sm] - xi[i + 3 * sm]
      const c1r = x0r + COS5_1 * s1r + COS5_2 * s2r
      const c1i = x0i + COS5_1 * s1i + COS5_2 * s2i
      const c2r = x0r + COS5_2 * s1r + COS5_1 * s2r
      const c2i = x0i + COS5_2 * s1i + COS5_1 * s2i
      const e1r = SIN5_1 * d1r + SIN5_2 * d2r
      const e1i = SIN5_1 * d1i + SIN5_2 * d2i
      const e2r = SIN5_2 * d1r - SIN5_1 * d2r
      const e2i = SIN5_2 * d1i - SIN5_1 * d2i
      yr[o] = x0r + s1r + s2r
      yi[o] = x0i + s1i + s2i
      const y1r = c1r - e1i
      const y1i = c1i + e1r
      yr[o + s] = y1r * w1r - y1i * w1i
      yi[o + s] = y1r * w1i + y1i * w1r
      const y2r = c2r - e2i
      const y2i = c2i + e2r
      yr[o + 2 * s] = y2r * w2r - y2i * w2i
      yi[o + 2 * s] = y2r * w2i + y2i * w2r
      const y3r = c2r + e2i
      const y3i = c2i - e2r
      yr[o + 3 * s] = y3r * w3r - y3i * w3i
      yi[o + 3 * s] = y3r * w3i + y3i * w3r
      const y4r = c1r + e1i
      const y4i = c1i - e1r
      yr[o + 4 * s] = y4r * w4r - y4i * w4i
      yi[o + 4 * s] = y4r * w4i + y4i * w4r
    }
  }
}

const pass7: Pass = (xr, xi, yr, yi, n, s, wr, wi) => {
  const m = n / 7
  const sm = s * m
  for (let p = 0; p < m; p++) {
    const ps = p * s
    const w1r = wr[ps]
    const w1i = wi[ps]
    const w2r = wr[2 * ps]
    const w2i = wi[2 * ps]
    const w3r = wr[3 * ps]
    const w3i = wi[3 * ps]
    const w4r = wr[4 * ps]
    const w4i = wi[4 * ps]
    const w5r = wr[5 * ps]
    const w5i = wi[5 * ps]
    const w6r = wr[6 * ps]
    const w6i = wi[6 * ps]
    let i = ps
    let o = 7 * i
    for (let q = 0; q < s; q++, i++, o++) {
      const x0r = xr[i]
      const x0i = xi[i]
      const s1r = xr[i + sm] + xr[i + 6 * sm]
      const s1i = xi[i + sm] + xi[i + 6 * sm]
      const d1r = xr[i + sm] - xr[i + 6 * sm]
      const d1i = xi[i + sm] - xi[i + 6 * sm]
      const s2r = xr[i + 2 * sm] + xr[i + 5 * sm]
      const s2i = xi[i + 2 * sm] + xi[i + 5 * sm]
      const d2r = xr[i + 2 * sm] - xr[i + 5 * sm]
      const d2i = xi[i + 2 * sm] - xi[i + 5 * sm]
      const s3r = xr[i + 3 * sm] + xr[i + 4 * sm]
      const s3i = xi[i + 3 * sm] + xi[i + 4 * sm]
      const d3r = xr[i + 3 * sm] - xr[i + 4 * sm]
      const d3i = xi[i + 3 * sm] - xi[i + 4 * sm]
      yr[o] = x0r + s1r + s2r + s3r
      yi[o] = x0i + s1i + s2i + s3i
      const c1r = x0r + COS7_1 * s1r + COS7_2 * s2r + COS7_3 * s3r
      const c1i = x0i + COS7_1 * s1i + COS7_2 * s2i + COS7_3 * s3i
      const e1r = SIN7_1 * d1r + SIN7_2 * d2r + SIN7_3 * d3r
      const e1i = SIN7_1 * d1i + SIN7_2 * d2i + SIN7_3 * d3i
      const c2r = x0r + COS7_2 * s1r + COS7_3 * s2r + COS7_1 * s3r
      const c2i = x0i + COS7_2 * s1i + COS7_3 * s2i + COS7_1 * s3i
      const e2r = SIN7_2 * d1r - SIN7_3 * d2r - SIN7_1 * d3r
      const e2i = SIN7_2 * d1i - SIN7_3 * d2i - SIN7_1 * d3i
      const c3r = x0r + COS7_3 * s1r + COS7_1 * s2r + COS7_2 * s3r
      const c3i = x0i + COS7_3 * s1i + COS7_1 * s2i + COS7_2 * s3i
      const e3r = SIN7_3 * d1r - SIN7_1 * d2r + SIN7_2 * d3r
      const e3i = SIN7_3 * d1i - SIN7_1 * d2i + SIN7_2 * d3i
      const y1r = c1r - e1i
      const y1i = c1i + e1r
      yr[o + s] = y1r * w1r - y1i * w1i
      yi[o + s] = y1r * w1i + y1i * w1r
      const y2r = c2r - e2i
      const y2i = c2i + e2r
      yr[o + 2 * s] = y2r * w2r - y2i * w2i
      yi[o + 2 * s] = y2r * w2i + y2i * w2r
      const y3r = c3r - e3i
      const y3i = c3i + e3r
      yr[o + 3 * s] = y3r * w3r - y3i * w3i
      yi[o + 3 * s] = y3r * w3i + y3i * w3r
      const y4r = c3r + e3i
      const y4i = c3i - e3r
      yr[o + 4 * s] = y4r * w4r - y4i * w4i
      yi[o + 4 * s] = y4r * w4i + y4i * w4r
      const y5r = c2r + e2i
      const y5i = c2i - e2r
      yr[o + 5 * s] = y5r * w5r - y5i * w5i
      yi[o + 5 * s] = y5r * w5i + y5i * w5r
      const y6r = c1r + e1i
      const y6i = c1i - e1r
      yr[o + 6 * s] = y6r * w6r - y6i * w6i
      yi[o + 6 * s] = y6r * w6i + y6i * w6r
    }
  }
}

const pass8: Pass = (xr, xi, yr, yi, n, s, wr, wi) => {
  const m = n / 8
  const sm = s * m
  for (let p = 0; p < m; p++) {
    const ps = p * s
    const w1r = wr[ps]
    const w1i = wi[ps]
    const w2r = wr[2 * ps]
    const w2i = wi[2 * ps]
    const w3r = wr[3 * ps]
    const w3i = wi[3 * ps]
    const w4r = wr[4 * ps]
    const w4i = wi[4 * ps]
    const w5r = wr[5 * ps]
    const w5i = wi[5 * ps]
    const w6r = wr[6 * ps]
    const w6i = wi[6 * ps]
    const w7r = wr[7 * ps]
    const w7i = wi[7 * ps]
    let i = ps
    let o = 8 * i
    for (let q = 0; q < s; q++, i++, o++) {
      // The even-numbered inputs: a transform of four points.
      const a0r = xr[i] + xr[i + 4 * sm]
      const a0i = xi[i] + xi[i + 4 * sm]
      const a1r = xr[i] - xr[i + 4 * sm]
      const a1i = xi[i] - xi[i + 4 * sm]
      const a2r = xr[i + 2 * sm] + xr[i + 6 * sm]
      const a2i = xi[i + 2 * sm] + xi[i + 6 * sm]
      const a3r = xi[i + 6 * sm] - xi[i + 2 * sm]
      const a3i = xr[i + 2 * sm] - xr[i + 6 * sm]
      const e0r = a0r + a2r
      const e0i = a0i + a2i
      const e1r = a1r + a3r
      const e1i = a1i + a3i
      const e2r = a0r - a2r
      const e2i = a0i - a2i
      const e3r = a1r - a3r
      const e3i = a1i - a3i
      // The odd-numbered inputs, then times e(b/8).
      const b0r = xr[i + sm] + xr[i + 5 * sm]
      const b0i = xi[i + sm] + xi[i + 5 * sm]
      const b1r = xr[i + sm] - xr[i + 5 * sm]
      const b1i = xi[i + sm] - xi[i + 5 * sm]
      const b2r = xr[i + 3 * sm] + xr[i + 7 * sm]
      const b2i = xi[i + 3 * sm] + xi[i + 7 * sm]
      const b3r = xi[i + 7 * sm] - xi[i + 3 * sm]
      const b3i = xr[i + 3 * sm] - xr[i + 7 * sm]
      const o0r = b0r + b2r
      const o0i = b0i + b2i
      const u1r = b1r + b3r
      const u1i = b1i + b3i
      const o1r = SQRT_HALF * (u1r - u1i)
      const o1i = SQRT_HALF * (u1r + u1i)
      const o2r = b2i - b0i
      const o2i = b0r - b2r
      const u3r = b1r - b3r
      const u3i = b1i - b3i
      const o3r = -SQRT_HALF * (u3r + u3i)
      const o3i = SQRT_HALF * (u3r - u3i)
      yr[o] = e0r + o0r
      yi[o] = e0i + o0i
      const y1r = e1r + o1r
      const y1i = e1i + o1i
      yr[o + s] = y1r * w1r - y1i * w1i
      yi[o + s] = y1r * w1i + y1i * w1r
      const y2r = e2r + o2r
      const y2i = e2i + o2i
      yr[o + 2 * s] = y2r * w2r - y2i * w2i
      yi[o + 2 * s] = y2r * w2i + y2i * w2r
      const y3r = e3r + o3r
      const y3i = e3i + o3i
      yr[o + 3 * s] = y3r * w3r - y3i * w3i
      yi[o + 3 * s] = y3r * w3i + y3i * w3r
      const y4r = e0r - o0r
      const y4i = e0i - o0i
      yr[o + 4 * s] = y4r * w4r - y4i * w4i
      yi[o + 4 * s] = y4r * w4i + y4i * w4r
      const y5r = e1r - o1r
      const y5i = e1i - o1i
      yr[o + 5 * s] = y5r * w5r - y5i * w5i
      yi[o + 5 * s] = y5r * w5i + y5i * w5r
      const y6r = e2r - o2r
      const y6i = e2i - o2i
      yr[o + 6 * s] = y6r * w6r - y6i * w6i
      yi[o + 6 * s] = y6r * w6i + y6i * w6r
      const y7r = e3r - o3r
      const y7i = e3i - o3i
      yr[o + 7 * s] = y7r * w7r - y7i * w7i
      yi[o + 7 * s] = y7r * w7i + y7i * w7r
    }
  }
}

const STRAIGHT_PASSES: Readonly<Record<number, Pass>> = {
  2: pass2,
  3: pass3,
  4: pass4,
  5: pass5,
  7: pass7,
  8: pass8,
}

/**
 * Makes a pass of odd prime radix as a direct product. Inputs a and r−a have the same cosines and opposite sines, so sums and differences of
 * these pairs halve the work to r multiply-adds per point.
 */
function primePass(radix: number): Pass {
  const pairs = (radix - 1) / 2
  const { cos, sin } = unitCircle(radix)
  const cosines = new Float64Array(pairs * pairs)
  const sines = new Float64Array(pairs * pairs)
  for (let b = 0; b < pairs; b++) {
    for (let a = 0; a < pairs; a++) {
      const turn = ((a + 1) * (b + 1)) % radix
      cosines[b * pairs + a] = cos[turn]
      sines[b * pairs + a] = sin[turn]
    }
  }
  const sumRe = new Float64Array(pairs)
  const sumIm = new Float64Array(pairs)
  const differenceRe = new Float64Array(pairs)
  const differenceIm = new Float64Array(pairs)
  return (xr, xi, yr, yi, n, s, wr, wi) => {
    const m = n / radix
    const sm = s * m
    for (let p = 0; p < m; p++) {
      for (let q = 0; q < s; q++) {
        const i = q + s * p
        const o = q + s * radix * p
        const x0r = xr[i]
        const x0i = xi[i]
        let totalRe = x0r
        let totalIm = x0i
        for (let a = 0; a < pairs; a++) {
          const near = i + (a + 1) * sm
          const far = i + (radix - 1 - a) * sm
          const sr = xr[near] + xr[far]
          const si = xi[near] + xi[far]
          sumRe[a] = sr
          sumIm[a] = si
          differenceRe[a] = xr[near] - xr[far]
          differenceIm[a] = xi[near] - xi[far]
          totalRe += sr
          totalIm += si
        }
        yr[o] = totalRe
        yi[o] = totalIm
        for (let b = 0; b < pairs; b++) {
          let cr = x0r
          let ci = x0i
          let dr = 0
          let di = 0
          const row = b * pairs
          for (let a = 0; a < pairs; a++) {
            const c = cosines[row + a]
            const t = sines[row + a]
            cr += c * sumRe[a]
            ci += c * sumIm[a]
            dr += t * differenceRe[a]
            di += t * differenceIm[a]
          }
          const w1 = p * (b + 1) * s
          const w2 = p * (radix - 1 - b) * s
          const ur = cr - di
          const ui = ci + dr
          const vr = cr + di
          const vi = ci - dr
          yr[o + (b + 1) * s] = ur * wr[w1] - ui * wi[w1]
          yi[o + (b + 1) * s] = ur * wi[w1] + ui * wr[w1]
          yr[o + (radix - 1 - b) * s] = vr * wr[w2] - vi * wi[w2]
          yi[o + (radix - 1 - b) * s] = vr * wi[w2] + vi * wr[w2]
        }
      }
    }
  }
}

/**
 * Makes a plan by Bluestein's algorithm: `m·k = (m² + k² − (k−m)²)/2` turns the transform into a convolution with the chirp `e(−t²/2N)`, computed as a cyclic one of
 * a length with small factors. Squares are reduced modulo 2N before the table is read, so the chirp is as exact as the unit circle.
 */
function bluesteinFft(length: number): ComplexFft {
  const inner = complexFft(smoothLengthFrom(2 * length - 1))
  const chirpRe = new Float64Array(length)
  const chirpIm = new Float64Array(length)
  const { cos, sin } = unitCircle(2 * length)
  for (let m = 0; m < length; m++) {
    const turn = (m * m) % (2 * length)
    chirpRe[m] = cos[turn]
    chirpIm[m] = sin[turn]
  }
  const { inputRe: xr, inputIm: xi, outputRe: yr, outputIm: yi } = inner
  for (let t = 0; t < length; t++) {
    const mirrored = (inner.length - t) % inner.length
    xr[t] = xr[mirrored] = chirpRe[t]
    xi[t] = xi[mirrored] = -chirpIm[t]
  }
  inner.run()
  // The kernel includes the factor 1/M of the inverse transform.
  const kernelRe = yr.map((value) => value / inner.length)
  const kernelIm = yi.map((value) => value / inner.length)

  const inputRe = new Float64Array(length)
  const inputIm = new Float64Array(length)
  const outputRe = new Float64Array(length)
  const outputIm = new Float64Array(length)
  return {
    length,
    inputRe,
    inputIm,
    outputRe,
    outputIm,
    run() {
      for (let m = 0; m < length; m++) {
        xr[m] = inputRe[m] * chirpRe[m] - inputIm[m] * chirpIm[m]
        xi[m] = inputRe[m] * chirpIm[m] + inputIm[m] * chirpRe[m]
      }
      xr.fill(0, length)
      xi.fill(0, length)
      inner.run()
      // The inverse uses the same e(+) transform: conjugate before and after it.
      for (let k = 0; k < inner.length; k++) {
        const re = yr[k] * kernelRe[k] - yi[k] * kernelIm[k]
        const im = yr[k] * kernelIm[k] + yi[k] * kernelRe[k]
        xr[k] = re
        xi[k] = -im
      }
      inner.run()
      for (let k = 0; k < length; k++) {
        outputRe[k] = yr[k] * chirpRe[k] + yi[k] * chirpIm[k]
        outputIm[k] = yr[k] * chirpIm[k] - yi[k] * chirpRe[k]
      }
    },
  }
}

/** Returns the smallest 2^a, 3·2^a or 5·2^a that is at least `minimum`. */
function smoothLengthFrom(minimum: number): number {
  const above = (factor: number) => {
    let length = factor
    while (length < minimum) length *= 2
    return length
  }
  return Math.min(above(1), above(3), above(5))
}
