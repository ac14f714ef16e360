// Opens a tension report with nothing but Node.js, from docs/wire-format.md alone.
// stdin: {envelope, author, office, suite, key}; `author` is the Ed25519 public key, `key` the office's secret key of
// that suite, both base64url. stdout: {claims, contents, counter, sd_jwt}, or {"error": code}.
import crypto from "node:crypto";
import { aeadOpen, hpkeOpen, publicKey } from "./hpke.mjs";
import { strict } from "./json.mjs";
import * as format from "./format.mjs";

const { demand, unb64u, utf8 } = format;
const NONCE = Buffer.alloc(12);
const SLOT = 32;

function orRefuse(code, attempt) {
  try { return attempt(); } catch { throw new format.Refusal(code); }
}

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
const hasNames = (value, ...names) => isObject(value) && Object.keys(value).join() === names.join();

// Parsing gives up on the first thing out of place; spelling the result again finds all the rest: white space, order,
// escapes. `protected` is compared as it stands, since nothing of another type is to be understood at all.
function parse(text) {
  const data = utf8(text);
  demand(data.length <= format.MAX_ENVELOPE, "oversized");
  const envelope = orRefuse("malformed", () => strict(data, 4));
  demand(hasNames(envelope, "protected", "payload", "signature", "header"), "malformed");
  demand(envelope.protected === format.PROTECTED, "unknown-type");
  demand(hasNames(envelope.header, "ct", "w") && isObject(envelope.header.ct) && Array.isArray(envelope.header.w), "malformed");
  const { ct, w } = envelope.header;
  demand(Object.keys(ct).join() === format.NAMES.filter((name) => Object.hasOwn(ct, name)).join(), "malformed");
  Object.values(ct).forEach(unb64u);
  demand(w.length <= format.MAX_WRAPS, "oversized");
  w.forEach((wrap, i) => {
    demand(Array.isArray(wrap) && wrap.length === 3 && wrap.every((part) => typeof part === "string"), "malformed");
    demand(i === 0 || w[i - 1][0] < wrap[0], "malformed");
    unb64u(wrap[2]);
  });
  demand(unb64u(envelope.signature).length === 64 && format.spell(envelope) === text, "malformed");
  return envelope;
}

function parsePayload(text) {
  const data = unb64u(text);
  demand(data.length <= format.MAX_PAYLOAD, "oversized");
  const payload = orRefuse("malformed", () => strict(data, 4));
  const { _sd, _sd_alg, ctr, ...claims } = isObject(payload) ? payload : {};
  demand(_sd_alg === "sha-256" && Array.isArray(_sd) && _sd.length === format.NAMES.length, "malformed");
  demand([..._sd, ctr].every((digest) => unb64u(digest).length === 32), "malformed");
  demand(_sd.every((digest, i) => i === 0 || _sd[i - 1] < digest), "malformed");
  demand(typeof claims.kid === "string" && typeof claims.id === "string" && Number.isInteger(claims.pol), "malformed");
  return { claims, _sd };
}

function unpad(padded) {
  const size = padded.readUInt32BE(0);
  demand(size + 4 <= padded.length && padded.subarray(4 + size).every((byte) => byte === 0), "not-as-signed");
  return padded.subarray(4, 4 + size);
}

function open({ envelope: text, author, office, suite, key }) {
  const envelope = parse(text);
  const { claims, _sd } = parsePayload(envelope.payload);
  const verifier = publicKey("ed25519", unb64u(author));
  demand(claims.kid === format.kidOf(unb64u(author)), "unknown-author");
  demand(crypto.verify(null, format.signed(envelope), verifier, unb64u(envelope.signature)), "bad-signature");

  const core = format.coreOf({ ...claims, _sd });
  const wrap = envelope.header.w.find(([name, kem]) => name === office && kem === suite);
  demand(wrap, "cannot-open");
  const info = format.wrapInfo(office, core);
  const plain = orRefuse("cannot-open", () => hpkeOpen(suite, unb64u(key), info, unb64u(wrap[2])));
  demand(plain.length === 9 + SLOT * format.NAMES.length, "cannot-open");

  const contents = {};
  const disclosures = [];
  format.NAMES.forEach((name, i) => {
    if (!((plain[0] >> i) & 1) || !Object.hasOwn(envelope.header.ct, name)) return;
    const slot = plain.subarray(9 + SLOT * i, 9 + SLOT * (i + 1));
    const sealed = unb64u(envelope.header.ct[name]);
    const disclosure = unpad(orRefuse("cannot-open", () => aeadOpen(slot, NONCE, sealed, format.ctAad(name, core))));
    demand(_sd.includes(format.digestOf(disclosure)), "not-as-signed");
    const [salt, claim, value, ...rest] = orRefuse("not-as-signed", () => strict(disclosure, 16));
    demand(claim === name && unb64u(salt).length === 16 && value !== undefined && !rest.length, "not-as-signed");
    contents[name] = value;
    disclosures.push(format.b64u(disclosure));
  });
  const sd_jwt = [`${envelope.protected}.${envelope.payload}.${envelope.signature}`, ...disclosures, ""].join("~");
  return JSON.stringify({ claims, contents, counter: Number(plain.readBigUInt64BE(1)), sd_jwt });
}

format.main(open);
