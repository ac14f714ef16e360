// ML-KEM-768 (FIPS 203) over node:crypto's SHA-3, for Node versions that have none. It is a second opinion, written
// to be read beside the standard: it is not constant-time, and must guard nobody's real key.
import crypto from "node:crypto";

const Q = 3329;
const N = 256;
const K = 3; // FIPS 203 section 8, table 2: ML-KEM-768 has k = 3, eta1 = eta2 = 2, du = 10, dv = 4
const ETA = 2;
const DU = 10;
const DV = 4;
const POLY = 32 * 12; // bytes of a polynomial that is not compressed

export const PUBLIC_BYTES = K * POLY + 32; // 1184
export const SECRET_BYTES = K * POLY + PUBLIC_BYTES + 64; // 2400
export const CIPHERTEXT_BYTES = 32 * (K * DU + DV); // 1088

const hash = (name, parts, outputLength) =>
  crypto.createHash(name, outputLength ? { outputLength } : {}).update(Buffer.concat(parts)).digest();
const H = (...parts) => hash("sha3-256", parts); // section 4.1
const J = (...parts) => hash("shake256", parts, 32);
const G = (...parts) => {
  const out = hash("sha3-512", parts);
  return [out.subarray(0, 32), out.subarray(32)];
};
const PRF = (seed, n) => hash("shake256", [seed, Buffer.from([n])], 64 * ETA);
const mod = (x) => ((x % Q) + Q) % Q;

// Section 4.3 and appendix A: 17 is the first primitive 256th root of unity mod q.
const bitrev7 = (i) => parseInt(i.toString(2).padStart(7, "0").split("").reverse().join(""), 2);
const power = (base, exponent) => {
  let out = 1;
  for (let i = 0; i < exponent; i++) out = (out * base) % Q;
  return out;
};
const ZETAS = Array.from({ length: 128 }, (_, i) => power(17, bitrev7(i)));
const GAMMAS = Array.from({ length: 128 }, (_, i) => power(17, 2 * bitrev7(i) + 1));

// Algorithms 5 and 6: d bits a coefficient, the least significant bit first.
function encode(poly, d) {
  const out = Buffer.alloc(32 * d);
  poly.forEach((value, i) => {
    for (let j = 0; j < d; j++) {
      const at = i * d + j;
      out[at >> 3] |= ((value >> j) & 1) << (at & 7);
    }
  });
  return out;
}

function decode(bytes, d) {
  const poly = new Array(N).fill(0);
  for (let at = 0; at < N * d; at++) poly[Math.floor(at / d)] |= ((bytes[at >> 3] >> (at & 7)) & 1) << at % d;
  return d === 12 ? poly.map((value) => value % Q) : poly;
}

// Section 4.2.1: both round to the nearest, halves up.
const compress = (poly, d) => poly.map((x) => Math.floor((x * 2 ** (d + 1) + Q) / (2 * Q)) % 2 ** d);
const decompress = (poly, d) => poly.map((y) => Math.floor((y * Q * 2 + 2 ** d) / 2 ** (d + 1)));

// Algorithm 7: uniform coefficients by rejection; a longer output begins with the shorter one, so asking again is fair.
function sampleNTT(seed, j, i) {
  for (let size = 168 * 5; ; size *= 2) {
    const stream = hash("shake128", [seed, Buffer.from([j, i])], size);
    const poly = [];
    for (let at = 0; at + 3 <= size && poly.length < N; at += 3) {
      const [a, b, c] = stream.subarray(at, at + 3);
      for (const value of [a + 256 * (b % 16), (b >> 4) + 16 * c]) if (value < Q && poly.length < N) poly.push(value);
    }
    if (poly.length === N) return poly;
  }
}

// Algorithm 8: the difference of two sums of eta bits.
function sampleCBD(bytes) {
  const bit = (at) => (bytes[at >> 3] >> (at & 7)) & 1;
  return Array.from({ length: N }, (_, i) => mod(bit(4 * i) + bit(4 * i + 1) - bit(4 * i + 2) - bit(4 * i + 3)));
}

// Algorithm 9.
function ntt(poly) {
  const f = [...poly];
  let i = 1;
  for (let len = 128; len >= 2; len >>= 1)
    for (let start = 0; start < N; start += 2 * len) {
      const zeta = ZETAS[i++];
      for (let j = start; j < start + len; j++) {
        const t = (zeta * f[j + len]) % Q;
        f[j + len] = mod(f[j] - t);
        f[j] = mod(f[j] + t);
      }
    }
  return f;
}

// Algorithm 10; 3303 is 128^-1 mod q.
function inverseNTT(poly) {
  const f = [...poly];
  let i = 127;
  for (let len = 2; len <= 128; len <<= 1)
    for (let start = 0; start < N; start += 2 * len) {
      const zeta = ZETAS[i--];
      for (let j = start; j < start + len; j++) {
        const t = f[j];
        f[j] = mod(t + f[j + len]);
        f[j + len] = mod(zeta * (f[j + len] - t));
      }
    }
  return f.map((x) => (x * 3303) % Q);
}

// Algorithms 11 and 12: products of polynomials of degree one, mod X^2 - gamma.
function multiply(f, g) {
  const out = new Array(N);
  for (let i = 0; i < 128; i++) {
    const [a0, a1, b0, b1] = [f[2 * i], f[2 * i + 1], g[2 * i], g[2 * i + 1]];
    out[2 * i] = (a0 * b0 + ((a1 * b1) % Q) * GAMMAS[i]) % Q;
    out[2 * i + 1] = (a0 * b1 + a1 * b0) % Q;
  }
  return out;
}

const add = (f, g) => f.map((x, i) => (x + g[i]) % Q);
const subtract = (f, g) => f.map((x, i) => mod(x - g[i]));
const dot = (f, g) => f.map((poly, i) => multiply(poly, g[i])).reduce(add);
const range = (n) => Array.from({ length: n }, (_, i) => i);
const pieces = (bytes, size) => range(bytes.length / size).map((i) => bytes.subarray(i * size, (i + 1) * size));
const noise = (seed, first) => range(K).map((i) => sampleCBD(PRF(seed, first + i)));
const matrix = (rho) => range(K).map((i) => range(K).map((j) => sampleNTT(rho, j, i)));

// Algorithms 13 and 16: `d` and `z` are 32 random bytes each.
export function keygen(d, z) {
  const [rho, sigma] = G(d, Buffer.from([K]));
  const A = matrix(rho);
  const s = noise(sigma, 0).map(ntt);
  const e = noise(sigma, K).map(ntt);
  const t = A.map((row, i) => add(dot(row, s), e[i]));
  const publicKey = Buffer.concat([...t.map((poly) => encode(poly, 12)), rho]);
  const secretKey = Buffer.concat([...s.map((poly) => encode(poly, 12)), publicKey, H(publicKey), z]);
  return { publicKey, secretKey };
}

// Algorithm 14.
function encrypt(publicKey, message, seed) {
  const t = pieces(publicKey.subarray(0, K * POLY), POLY).map((bytes) => decode(bytes, 12));
  const A = matrix(publicKey.subarray(K * POLY));
  const y = noise(seed, 0).map(ntt);
  const e1 = noise(seed, K);
  const e2 = sampleCBD(PRF(seed, 2 * K));
  const u = range(K).map((i) => add(inverseNTT(dot(A.map((row) => row[i]), y)), e1[i]));
  const v = add(add(inverseNTT(dot(t, y)), e2), decompress(decode(message, 1), 1));
  return Buffer.concat([...u.map((poly) => encode(compress(poly, DU), DU)), encode(compress(v, DV), DV)]);
}

// Algorithm 15.
function decrypt(secretKey, ciphertext) {
  const u = pieces(ciphertext.subarray(0, K * 32 * DU), 32 * DU).map((bytes) => decompress(decode(bytes, DU), DU));
  const v = decompress(decode(ciphertext.subarray(K * 32 * DU), DV), DV);
  const s = pieces(secretKey.subarray(0, K * POLY), POLY).map((bytes) => decode(bytes, 12));
  return encode(compress(subtract(v, inverseNTT(dot(s, u.map(ntt)))), 1), 1);
}

// Algorithms 17 and 20, with section 7.2's checks of the key: its length, and no coefficient at or above q.
export function encapsulate(publicKey, message) {
  if (publicKey.length !== PUBLIC_BYTES) throw new Error("an ML-KEM-768 public key has 1184 bytes");
  for (const bytes of pieces(publicKey.subarray(0, K * POLY), POLY))
    if (!encode(decode(bytes, 12), 12).equals(bytes)) throw new Error("a coefficient of the public key is not below q");
  const [shared, seed] = G(message, H(publicKey));
  return { shared, ciphertext: encrypt(publicKey, message, seed) };
}

// Algorithms 18 and 21. A ciphertext that was not made for this key gives a secret that only the key could know
// (implicit rejection), so that no answer tells a valid one from an invalid one.
export function decapsulate(secretKey, ciphertext) {
  if (secretKey.length !== SECRET_BYTES) throw new Error("an ML-KEM-768 secret key has 2400 bytes");
  if (ciphertext.length !== CIPHERTEXT_BYTES) throw new Error("an ML-KEM-768 ciphertext has 1088 bytes");
  const publicKey = secretKey.subarray(K * POLY, K * POLY + PUBLIC_BYTES);
  const [digest, z] = pieces(secretKey.subarray(-64), 32);
  if (!H(publicKey).equals(digest)) throw new Error("the secret key is damaged");
  const message = decrypt(secretKey, ciphertext);
  const [shared, seed] = G(message, digest);
  return encrypt(publicKey, message, seed).equals(ciphertext) ? shared : J(z, ciphertext);
}
