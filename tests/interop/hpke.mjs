// HPKE, base mode, single shot (RFC 9180 sections 5 and 6.1), for Kengele's two suites. Both use HKDF-SHA256 (KDF 1)
// and ChaCha20-Poly1305 (AEAD 3). The hybrid KEM is X-Wing (draft-connolly-cfrg-xwing-kem, KEM id 0x647a).
import crypto from "node:crypto";
import { privateKey, publicKey, publicRaw } from "./keys.mjs";
import * as mlkem from "./mlkem768.mjs";

const NONE = Buffer.alloc(0);
const utf8 = (text) => Buffer.from(text, "utf8");
const u16 = (n) => Buffer.from([n >> 8, n & 255]);
const hmac = (key, ...parts) => crypto.createHmac("sha256", key).update(Buffer.concat(parts)).digest();

// RFC 5869 and RFC 9180 section 4.
function expand(key, info, size) {
  let out = NONE;
  for (let i = 1, last = NONE; out.length < size; i++) {
    last = hmac(key, last, info, Buffer.from([i]));
    out = Buffer.concat([out, last]);
  }
  return out.subarray(0, size);
}
const labeledExtract = (suite, salt, label, ikm) =>
  hmac(salt.length ? salt : Buffer.alloc(32), utf8("HPKE-v1"), suite, utf8(label), ikm);
const labeledExpand = (suite, prk, label, info, size) =>
  expand(prk, Buffer.concat([u16(size), utf8("HPKE-v1"), suite, utf8(label), info]), size);

// RFC 7748 section 6.1; node refuses the all-zero secret, as RFC 9180 section 7.1.4 asks.
const x25519 = (secret, point) =>
  crypto.diffieHellman({ privateKey: privateKey("x25519", secret), publicKey: publicKey("x25519", point) });

// DHKEM(X25519, HKDF-SHA256): RFC 9180 section 4.1. Both keys are the 32 bytes of RFC 7748.
const dhkem = {
  id: 0x0020,
  encBytes: 32,
  publicBytes: 32,
  randomBytes: 32, // the ephemeral secret key
  derive(shared, enc, recipient) {
    const suite = Buffer.concat([utf8("KEM"), u16(this.id)]);
    const prk = labeledExtract(suite, NONE, "eae_prk", shared);
    return labeledExpand(suite, prk, "shared_secret", Buffer.concat([enc, recipient]), 32);
  },
  publicOf: (secret) => publicRaw("x25519", secret),
  encapsulate(recipient, ephemeral) {
    const enc = publicRaw("x25519", ephemeral);
    return { enc, secret: this.derive(x25519(ephemeral, recipient), enc, recipient) };
  },
  decapsulate(enc, secret) {
    return this.derive(x25519(secret, enc), enc, this.publicOf(secret));
  },
};

// X-Wing. Secret: ML-KEM's d and z and the X25519 secret key, 32 bytes each (X-Wing stretches them from one seed of 32
// bytes by SHAKE256; Kengele's keys are made of 96 random ones, and no other side can tell). Public: ML-KEM's 1184
// bytes, then X25519's 32. enc: ML-KEM's 1088 bytes, then X25519's 32. What the combiner gives is HPKE's shared_secret
// as it is: unlike DHKEM, no further extract and expand.
const LABEL = Buffer.from("5c2e2f2f5e5c", "hex"); // the ASCII picture \.//^\
const xwing = {
  id: 0x647a,
  encBytes: mlkem.CIPHERTEXT_BYTES + 32,
  publicBytes: mlkem.PUBLIC_BYTES + 32,
  randomBytes: 64, // ML-KEM's message, then the ephemeral X25519 secret key
  keys(secret) {
    if (secret.length !== 96) throw new Error("a secret key of MLKEM768_X25519 has 96 bytes");
    const lattice = mlkem.keygen(secret.subarray(0, 32), secret.subarray(32, 64));
    const curve = secret.subarray(64);
    return { lattice, curve, curvePublic: publicRaw("x25519", curve) };
  },
  publicOf(secret) {
    const { lattice, curvePublic } = this.keys(secret);
    return Buffer.concat([lattice.publicKey, curvePublic]);
  },
  combine: (...parts) => crypto.createHash("sha3-256").update(Buffer.concat([...parts, LABEL])).digest(),
  encapsulate(recipient, random) {
    const curvePublic = recipient.subarray(mlkem.PUBLIC_BYTES);
    const { shared, ciphertext } = mlkem.encapsulate(recipient.subarray(0, mlkem.PUBLIC_BYTES), random.subarray(0, 32));
    const ephemeral = random.subarray(32);
    const point = publicRaw("x25519", ephemeral);
    const secret = this.combine(shared, x25519(ephemeral, curvePublic), point, curvePublic);
    return { enc: Buffer.concat([ciphertext, point]), secret };
  },
  decapsulate(enc, secretKey) {
    const { lattice, curve, curvePublic } = this.keys(secretKey);
    const shared = mlkem.decapsulate(lattice.secretKey, enc.subarray(0, mlkem.CIPHERTEXT_BYTES));
    const point = enc.subarray(mlkem.CIPHERTEXT_BYTES);
    return this.combine(shared, x25519(curve, point), point, curvePublic);
  },
};

export const KEMS = { X25519: dhkem, MLKEM768_X25519: xwing };

export function aeadSeal(key, nonce, plain, aad) {
  const cipher = crypto.createCipheriv("chacha20-poly1305", key, nonce, { authTagLength: 16 });
  cipher.setAAD(aad, { plaintextLength: plain.length });
  return Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
}

export function aeadOpen(key, nonce, sealed, aad) {
  const decipher = crypto.createDecipheriv("chacha20-poly1305", key, nonce, { authTagLength: 16 });
  decipher.setAAD(aad, { plaintextLength: sealed.length - 16 });
  decipher.setAuthTag(sealed.subarray(-16));
  return Buffer.concat([decipher.update(sealed.subarray(0, -16)), decipher.final()]);
}

// RFC 9180 section 5.1, mode_base: no psk, so psk and psk_id are empty. The first message takes base_nonce as it is.
function schedule(kem, secret, info) {
  const suite = Buffer.concat([utf8("HPKE"), u16(kem.id), u16(0x0001), u16(0x0003)]);
  const context = Buffer.concat([
    Buffer.from([0]),
    labeledExtract(suite, NONE, "psk_id_hash", NONE),
    labeledExtract(suite, NONE, "info_hash", info),
  ]);
  const prk = labeledExtract(suite, secret, "secret", NONE);
  return [labeledExpand(suite, prk, "key", context, 32), labeledExpand(suite, prk, "base_nonce", context, 12)];
}

export function hpkeSeal(suite, recipient, info, plain, random) {
  const kem = KEMS[suite];
  if (recipient.length !== kem.publicBytes) throw new Error(`a public key of ${suite} has ${kem.publicBytes} bytes`);
  const { enc, secret } = kem.encapsulate(recipient, random(kem.randomBytes));
  return Buffer.concat([enc, aeadSeal(...schedule(kem, secret, info), plain, NONE)]);
}

export function hpkeOpen(suite, key, info, sealed) {
  const kem = KEMS[suite];
  const secret = kem.decapsulate(sealed.subarray(0, kem.encBytes), key);
  return aeadOpen(...schedule(kem, secret, info), sealed.subarray(kem.encBytes), NONE);
}
