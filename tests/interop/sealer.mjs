// Seals a tension report with nothing but Node.js, from docs/wire-format.md alone.
// stdin: {author, claims, contents: {name: value}, readers: [{office, suite, public, bits, counter}], random?}; keys are
// base64url, `author` is the Ed25519 seed. stdout: the envelope, or {"error": code}. Given a list, a list.
// `random`, in hex, makes the result one that can be repeated. It is used up in this order: for each compartment a salt
// (16 bytes) or, absent, what its decoy digest is of (32); seven keys (32 each); for each wrap, in order, the KEM's.
import crypto from "node:crypto";
import { KEMS, aeadSeal, hpkeSeal } from "./hpke.mjs";
import * as format from "./format.mjs";
import { privateKey, publicRaw } from "./keys.mjs";
import { demand } from "./refusal.mjs";

const { b64u, utf8 } = format;
const NONCE = Buffer.alloc(12); // every key is used once, so the nonce need not differ

function source(hex) {
  if (hex === undefined) return crypto.randomBytes;
  let left = Buffer.from(hex, "hex");
  return (size) => {
    if (left.length < size) throw new Error("`random` is too short");
    const out = left.subarray(0, size);
    left = left.subarray(size);
    return out;
  };
}

function padded(disclosure, least) {
  const size = Math.max(least, Math.ceil((4 + disclosure.length) / format.BLOCK) * format.BLOCK);
  demand(size <= format.MAX_PLAIN, "oversized");
  const plain = Buffer.alloc(size);
  plain.writeUInt32BE(disclosure.length);
  disclosure.copy(plain, 4);
  return plain;
}

function seal({ author, claims, contents, readers, random: hex }) {
  const random = source(hex);
  const seed = format.unb64u(author);
  const kid = format.kidOf(publicRaw("ed25519", seed));
  const said = { v: 2, id: claims.id ?? b64u(random(16)), kid, kind: "report", ...claims };
  const header = Object.fromEntries(format.CLAIMS.filter((name) => name in said).map((name) => [name, said[name]]));
  demand(Object.keys(said).every((name) => format.CLAIMS.includes(name)), "malformed");
  demand(Object.keys(contents).every((name) => format.NAMES.includes(name)), "malformed");

  // Absent compartments take part in everything, so that neither digests, sizes nor their number tell which are there.
  const parts = format.COMPARTMENTS.map(([name, least]) => {
    const here = name in contents;
    const disclosure = here ? utf8(JSON.stringify([b64u(random(16)), name, contents[name]])) : Buffer.alloc(0);
    const digest = here ? format.digestOf(disclosure) : b64u(format.sha256(random(32)));
    return { name, here, digest, plain: padded(disclosure, least) };
  });
  parts.forEach((part) => { part.key = random(32); });
  const sd = parts.map(({ digest }) => digest).sort();
  const core = format.coreOf({ ...header, _sd: sd });
  const ct = Object.fromEntries(
    parts.map(({ name, key, plain }) => [name, b64u(aeadSeal(key, NONCE, plain, format.ctAad(name, core)))]),
  );

  demand(readers.length <= format.MAX_WRAPS, "malformed");
  demand(new Set(readers.map(({ office }) => office)).size === readers.length, "malformed");
  demand(readers.every(({ suite }) => Object.hasOwn(KEMS, suite)), "malformed");
  const w = [...readers].sort((a, b) => (a.office < b.office ? -1 : 1)).map(({ office, suite, public: key, bits, counter }) => {
    const given = parts.map(({ here }, i) => here && (bits >> i) & 1);
    const front = Buffer.alloc(9);
    front[0] = given.reduce((bitmap, yes, i) => bitmap | (yes << i), 0);
    front.writeBigUInt64BE(BigInt(counter), 1);
    const slots = parts.map((part, i) => (given[i] ? part.key : Buffer.alloc(32)));
    const plain = Buffer.concat([front, ...slots]);
    return [office, suite, b64u(hpkeSeal(suite, format.unb64u(key), format.wrapInfo(office, core), plain, random))];
  });

  const payload = utf8(JSON.stringify({ ...header, _sd: sd, _sd_alg: "sha-256", ctr: format.ctrOf(ct, w) }));
  demand(payload.length <= format.MAX_PAYLOAD, "oversized");
  const envelope = { protected: format.PROTECTED, payload: b64u(payload), header: { ct, w } };
  envelope.signature = b64u(crypto.sign(null, format.signed(envelope), privateKey("ed25519", seed)));
  const out = format.spell(envelope);
  demand(out.length <= format.MAX_ENVELOPE, "oversized");
  return out;
}

format.main(seal);
