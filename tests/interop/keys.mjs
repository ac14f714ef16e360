// Keys as the format has them, raw, and how node takes them; Ed25519 by the stricter of two rules; NATS' nkeys.
import crypto from "node:crypto";
import { demand } from "./refusal.mjs";

// RFC 8410: the fixed beginnings of the two DER forms in which node takes raw 32-byte keys.
const PKCS8 = { x25519: "302e020100300506032b656e04220420", ed25519: "302e020100300506032b657004220420" };
const SPKI = { x25519: "302a300506032b656e032100", ed25519: "302a300506032b6570032100" };
const der = (prefix, raw) => Buffer.concat([Buffer.from(prefix, "hex"), raw]);
export const privateKey = (kind, raw) => crypto.createPrivateKey({ key: der(PKCS8[kind], raw), format: "der", type: "pkcs8" });
export const publicKey = (kind, raw) => crypto.createPublicKey({ key: der(SPKI[kind], raw), format: "der", type: "spki" });
export const publicRaw = (kind, raw) =>
  crypto.createPublicKey(privateKey(kind, raw)).export({ format: "der", type: "spki" }).subarray(-32);

// RFC 8032 leaves open what libsodium refuses and OpenSSL does not: points of small order, which let one signature hold
// for many messages. They have these five y (the sign bit is not looked at).
const SMALL_ORDER = [
  "0000000000000000000000000000000000000000000000000000000000000000",
  "0100000000000000000000000000000000000000000000000000000000000000",
  "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
  "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
  "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
];
const PRIME = 2n ** 255n - 19n;

function isSound(point) {
  const y = Buffer.from(point);
  y[31] &= 0x7f;
  return BigInt(`0x${Buffer.from(y).reverse().toString("hex")}`) < PRIME && !SMALL_ORDER.includes(y.toString("hex"));
}

export const isSigned = (key, message, signature) =>
  key.length === 32 &&
  signature.length === 64 &&
  isSound(key) &&
  isSound(signature.subarray(0, 32)) &&
  crypto.verify(null, message, publicKey("ed25519", key), signature);

const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

// RFC 4648 section 6, without padding.
export function base32(data) {
  const bits = [...data].map((byte) => byte.toString(2).padStart(8, "0")).join("");
  return bits.match(/.{1,5}/g).map((five) => ALPHABET[parseInt(five.padEnd(5, "0"), 2)]).join("");
}

function unbase32(text) {
  const bits = [...text].map((letter) => ALPHABET.indexOf(letter).toString(2).padStart(5, "0")).join("");
  return Buffer.from(bits.match(/.{8}/g).map((byte) => parseInt(byte, 2)));
}

// CRC-16/XMODEM: polynomial 0x1021, from zero.
function crc16(data) {
  let crc = 0;
  for (const byte of data) {
    crc ^= byte << 8;
    for (let i = 0; i < 8; i++) crc = crc & 0x8000 ? ((crc << 1) ^ 0x1021) & 0xffff : crc << 1;
  }
  return crc;
}

const USER = 0xa0;

// The 32 bytes of a user's public nkey.
export function userKey(text) {
  demand(/^U[A-Z2-7]{55}$/.test(text), "malformed");
  const data = unbase32(text);
  const body = data.subarray(0, 33);
  demand(body[0] === USER && crc16(body) === data.readUInt16LE(33) && base32(data) === text, "malformed");
  return body.subarray(1);
}
