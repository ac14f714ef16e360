// What sealer and opener share: the constants and formulas of docs/wire-format.md.
import crypto from "node:crypto";
import fs from "node:fs";
import { base32 } from "./keys.mjs";
import { Refusal, demand } from "./refusal.mjs";

export const TYP = "tension-report+sd-jwt";
export const MAX_ENVELOPE = 512 * 1024;
export const MAX_WRAPS = 200;
export const MAX_PLAIN = 64 * 1024;
export const MAX_PAYLOAD = 16 * 1024;
export const MAX_COUNTER = 2n ** 53n;
export const BLOCK = 256;
export const TAG = 16;
export const WRAP_PLAIN = 1 + 8 + 7 * 32;
export const COMPARTMENTS = [
  ["handling", 256], ["summary", 512], ["account", 1024], ["place", 256], ["people", 512], ["source", 256], ["media", 256],
];
export const NAMES = COMPARTMENTS.map(([name]) => name);
export const CLAIMS = ["v", "net", "id", "kid", "kind", "area", "categories", "severity", "day", "day_precision", "tlp", "pol"];

export const utf8 = (text) => Buffer.from(text, "utf8");
export const b64u = (data) => Buffer.from(data).toString("base64url");
export const sha256 = (...parts) => crypto.createHash("sha256").update(Buffer.concat(parts)).digest();

// node forgives padding, other alphabets, white space and stray bits; the format has one spelling for each byte string.
export function unb64u(text) {
  const data = typeof text === "string" ? Buffer.from(text, "base64url") : null;
  demand(data && b64u(data) === text, "malformed");
  return data;
}

const u32 = (n) => { const out = Buffer.alloc(4); out.writeUInt32BE(n); return out; };
export const lp = (...parts) =>
  Buffer.concat(parts.map((part) => (typeof part === "string" ? utf8(part) : part)).flatMap((part) => [u32(part.length), part]));

export const PROTECTED = b64u(utf8(`{"alg":"Ed25519","typ":"${TYP}"}`));
export const signed = (envelope) => utf8(`${envelope.protected}.${envelope.payload}`);
export const digestOf = (disclosure) => b64u(sha256(utf8(b64u(disclosure))));
export const coreOf = ({ net, kid, id, pol, _sd }) => sha256(lp("kengele-core-v2", TYP, net, kid, id, String(pol), ..._sd));
export const ctrOf = (ct, w) => b64u(sha256(lp(...Object.entries(ct).flat(), ...w.flat())));
export const ctAad = (name, core) => lp("kengele-ct-v1", name, core);
export const wrapInfo = (office, core) => lp("kengele-wrap-v1", office, core);
export const sharedInfo = (office, core, by) => lp("kengele-shared-wrap-v1", office, core, by);

export const fingerprint = (key) => base32(sha256(utf8("kengele-key-v1"), key).subarray(0, 16)).toLowerCase();
export const kidOf = (author) => `m-${fingerprint(author)}`;

// The one byte string of an envelope. Every text in it is ASCII without a quote, so JSON.stringify adds no freedom.
export const spell = ({ protected: p, payload, signature, header: { ct, w } }) =>
  JSON.stringify({ protected: p, payload, signature, header: { ct, w } });

// Runs on the one input on stdin, or on each of a list.
export function main(run) {
  const attempt = (input) => {
    try {
      return run(input);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      return { error: error.code };
    }
  };
  const input = JSON.parse(fs.readFileSync(0, "utf8"));
  const output = Array.isArray(input) ? input.map(attempt) : attempt(input);
  process.stdout.write(typeof output === "string" ? output : JSON.stringify(output));
}
