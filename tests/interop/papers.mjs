// Checks receipts, markers and cards with nothing but Node.js, from docs/wire-format.md alone.
// stdin: {kind, text, …} or a list of such. stdout: what they say, or {"error": code}.
import { scryptSync } from "node:crypto";

import { fingerprint, kidOf, main, sha256, unb64u, utf8 } from "./format.mjs";
import { strict } from "./json.mjs";
import { isSigned, userKey } from "./keys.mjs";
import { Refusal, demand } from "./refusal.mjs";

const MAX_RECEIPT = 64 * 1024;
const MAX_MARKER = 2 * 1024;
const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
const hasExactly = (value, names) => isObject(value) && Object.keys(value).sort().join() === [...names].sort().join();

// JavaScript compares texts by UTF-16 units, in which a letter beyond U+FFFF comes before one like U+FF5E.
const byCodePoint = (a, b) => Buffer.compare(utf8(a), utf8(b));

function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join()}]`;
  if (!isObject(value)) return JSON.stringify(value);
  const members = Object.keys(value).sort(byCodePoint).map((name) => `${JSON.stringify(name)}:${canonical(value[name])}`);
  return `{${members.join()}}`;
}

const without = (value, ...names) => Object.fromEntries(Object.entries(value).filter(([name]) => !names.includes(name)));

function orRefuse(code, attempt) {
  try {
    return attempt();
  } catch {
    throw new Refusal(code);
  }
}

// C2SP tlog-checkpoint, a signed note (c2sp.org/signed-note): body, empty line, one line a signature.
function readCheckpoint(text, log, hubKey) {
  const [body, signatures] = [text.slice(0, text.indexOf("\n\n") + 1), text.slice(text.indexOf("\n\n") + 2)];
  const [origin, size, root] = body.split("\n");
  demand(origin === log && /^(0|[1-9][0-9]*)$/.test(size), "bad-receipt");
  const id = sha256(utf8(`${log}\n`), Buffer.from([1]), hubKey).subarray(0, 4);
  const holds = signatures.split("\n").some((line) => {
    const raw = Buffer.from(line.slice(`\u2014 ${log} `.length), "base64");
    return line.startsWith(`\u2014 ${log} `) && raw.subarray(0, 4).equals(id) && isSigned(hubKey, utf8(body), raw.subarray(4));
  });
  demand(holds, "bad-receipt");
  return { size: Number(size), root: Buffer.from(root, "base64") };
}

const node = (left, right) => sha256(Buffer.from([1]), left, right);

// RFC 9162 section 2.1.3.2.
function rootFrom(leaf, index, size, path) {
  let [at, last, hash] = [index, size - 1, leaf];
  for (const step of path) {
    demand(last > 0, "bad-receipt");
    if (at % 2 || at === last) {
      hash = node(step, hash);
      while (at && at % 2 === 0) [at, last] = [at >> 1, last >> 1];
    } else hash = node(hash, step);
    [at, last] = [at >> 1, last >> 1];
  }
  demand(last === 0, "bad-receipt");
  return hash;
}

// C2SP tlog-proof: a line that says so, the index, the path from the leaf up, an empty line, the checkpoint.
function checkProof(text, leaf, log, hubKey) {
  const end = text.indexOf("\n\n");
  const [magic, place, ...hashes] = text.slice(0, end).split("\n");
  demand(magic === "c2sp.org/tlog-proof@v1" && /^index (0|[1-9][0-9]*)$/.test(place), "bad-receipt");
  const { size, root } = readCheckpoint(text.slice(end + 2), log, hubKey);
  const index = Number(place.slice("index ".length));
  demand(index < size, "bad-receipt");
  const path = hashes.map((hash) => Buffer.from(hash, "base64"));
  demand(rootFrom(sha256(Buffer.from([0]), utf8(leaf)), index, size, path).equals(root), "bad-receipt");
  return index;
}

const ACCEPTED = ["v", "code", "id", "digest", "bytes", "leaf", "proof", "repeat"];
const REFUSED = ["v", "code", "sentence", "mend", "id", "digest", "bytes", "retry_after", "signature"];

function receipt({ text, hub_key, log, sent }) {
  demand(utf8(text).length <= MAX_RECEIPT, "bad-receipt");
  const said = strict(utf8(text), 8);
  const key = unb64u(hub_key);
  demand(hasExactly(said, said.code === "accepted" ? ACCEPTED : REFUSED) && said.bytes === sent, "bad-receipt");
  if (said.code !== "accepted") {
    const signed = Buffer.concat([utf8("kengele-refusal-v1\0"), utf8(canonical(without(said, "signature")))]);
    demand(isSigned(key, signed, unb64u(said.signature)), "bad-receipt");
    return { code: said.code, retry_after: said.retry_after };
  }
  const leaf = strict(utf8(said.leaf), 8);
  demand(canonical(leaf) === said.leaf && leaf.bytes === sent && leaf.digest === said.digest, "bad-receipt");
  return { code: said.code, index: checkProof(said.proof, said.leaf, log, key), leaf };
}

function marker({ text, hub_key, office }) {
  demand(utf8(text).length <= MAX_MARKER, "oversized");
  const outer = strict(utf8(text), 8);
  demand(hasExactly(outer, ["payload", "signature"]) && canonical(outer) === text, "malformed");
  const signed = utf8(`kengele-marker-v1.${outer.payload}`);
  demand(isSigned(unb64u(hub_key), signed, unb64u(outer.signature)), "bad-signature");
  const said = strict(unb64u(outer.payload), 8);
  demand(hasExactly(said, ["v", "office", "kid", "policy", "at", "nonce"]), "bad-field");
  demand(said.office === office, "not-for-us");
  return said;
}

const CARDS = {
  coordinator: [["v", "id", "key", "nkey", "signature"], ["name"]],
  "join-request": [["v", "role", "nkey", "areas", "signature", "nkey_signature"], ["monitor", "office"]],
};

function card({ text, of }) {
  const said = strict(utf8(text), 8);
  const [needed, possible] = CARDS[of];
  const names = Object.keys(said);
  demand(needed.every((name) => names.includes(name)), "bad-card");
  demand(names.every((name) => needed.includes(name) || possible.includes(name)), "bad-card");
  const body = canonical(without(said, "signature", "nkey_signature"));
  const signs = (context, key, signature) =>
    demand(isSigned(key, utf8(`${context}\0${body}`), unb64u(signature)), "bad-card");
  if (of === "coordinator") {
    demand(said.id === `c-${fingerprint(unb64u(said.key))}`, "bad-card");
    signs("kengele-coordinator-v1", unb64u(said.key), said.signature);
  } else {
    demand(Object.hasOwn(said, said.role) && Object.hasOwn(said, "monitor") !== Object.hasOwn(said, "office"), "bad-card");
    const key = unb64u(said.role === "monitor" ? said.monitor.key : said.office.sign);
    demand(said.role !== "monitor" || said.monitor.kid === kidOf(key), "bad-card");
    signs("kengele-join-v1", key, said.signature);
    signs("kengele-join-v1", userKey(said.nkey), said.nkey_signature);
  }
  const stretched = scryptSync(utf8(body), utf8("kengele-digits-v2\0"), 8, { N: 65536, r: 8, p: 1, maxmem: 2 ** 27 });
  const number = stretched.readBigUInt64BE() % 10n ** 16n;
  return { digits: String(number).padStart(16, "0").replace(/(.{4})(?=.)/g, "$1 ") };
}

const CHECKS = {
  receipt: (input) => orRefuse("bad-receipt", () => receipt(input)),
  marker,
  card: (input) => orRefuse("bad-card", () => card(input)),
  canonical: ({ value }) => canonical(value),
};

main((input) => CHECKS[input.kind](input));
