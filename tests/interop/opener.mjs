// Opens a tension report with nothing but Node.js, from docs/wire-format.md alone.
// stdin: {envelope, net, author, office, suite, key}; `net` is the network's first root's digest, `author` is the Ed25519 public key, `key` the office's secret key of
// that suite, both base64url. A share may stand before it: {sharers: {id: key}, network} then say who may. stdout: {claims, contents, counter, withheld, sd_jwt}, or {"error": code}. Given a list,
// a list. What the JSON Schemas say of claims and contents is left to whoever reads the result.
import { KEMS, aeadOpen, hpkeOpen } from "./hpke.mjs";
import { strict } from "./json.mjs";
import { isSigned } from "./keys.mjs";
import * as format from "./format.mjs";
import { Refusal, demand } from "./refusal.mjs";

const { unb64u, utf8 } = format;
const NONCE = Buffer.alloc(12);
const SLOT = 32;

function orRefuse(code, attempt) {
  try {
    return attempt();
  } catch {
    throw new Refusal(code);
  }
}

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
const hasNames = (value, ...names) => isObject(value) && Object.keys(value).join() === names.join();

function checkCiphertext(text, least) {
  const size = unb64u(text).length - format.TAG;
  demand(size % format.BLOCK === 0 && size >= least && size <= format.MAX_PLAIN, "malformed");
}

function checkWrap(wrap, previous) {
  demand(Array.isArray(wrap) && wrap.length === 3 && wrap.every((part) => typeof part === "string"), "malformed");
  const [office, suite, text] = wrap;
  demand(/^[a-z][a-z0-9-]{1,31}$/.test(office) && (!previous || previous[0] < office), "malformed");
  demand(Object.hasOwn(KEMS, suite), "malformed");
  demand(unb64u(text).length === KEMS[suite].encBytes + format.WRAP_PLAIN + format.TAG, "malformed");
}

// Parsing gives up on the first thing out of place; spelling the result again finds all the rest: white space, order,
// escapes. `protected` is compared as it stands, since nothing of another type is to be understood at all.
function parse(text) {
  const data = utf8(text);
  demand(data.length <= format.MAX_ENVELOPE, "oversized");
  const envelope = strict(data, 5);
  demand(hasNames(envelope, "protected", "payload", "signature", "header"), "malformed");
  const { protected: type, payload, signature, header } = envelope;
  demand([type, payload, signature].every((part) => typeof part === "string"), "malformed");
  demand(type === format.PROTECTED, "unknown-type");
  demand(hasNames(header, "ct", "w") && isObject(header.ct) && Array.isArray(header.w), "malformed");
  demand(Object.keys(header.ct).join() === format.NAMES.filter((name) => Object.hasOwn(header.ct, name)).join(), "malformed");
  for (const [name, least] of format.COMPARTMENTS) if (Object.hasOwn(header.ct, name)) checkCiphertext(header.ct[name], least);
  demand(header.w.length <= format.MAX_WRAPS, "malformed");
  header.w.forEach((wrap, i) => checkWrap(wrap, header.w[i - 1]));
  unb64u(signature);
  demand(format.spell(envelope) === text, "malformed");
  return envelope;
}

function parsePayload(text) {
  const data = unb64u(text);
  demand(data.length <= format.MAX_PAYLOAD, "oversized");
  const payload = strict(data, 4);
  const { _sd, _sd_alg, ctr, ...claims } = isObject(payload) ? payload : {};
  demand(_sd_alg === "sha-256" && Array.isArray(_sd) && _sd.length === format.NAMES.length, "malformed");
  demand(!Object.hasOwn(claims, "..."), "malformed");
  demand([..._sd, ctr].every((digest) => unb64u(digest).length === 32), "malformed");
  demand(_sd.every((digest, i) => i === 0 || _sd[i - 1] < digest), "malformed");
  // The rest of the header's model is its JSON Schema's; without these five nothing can be computed.
  demand(claims.v === 2 && typeof claims.net === "string", "bad-field");
  demand(typeof claims.kid === "string" && typeof claims.id === "string" && Number.isInteger(claims.pol), "bad-field");
  return { claims, _sd };
}

function unpad(padded) {
  const size = padded.readUInt32BE(0);
  demand(size + 4 <= padded.length && padded.subarray(4 + size).every((byte) => byte === 0), "not-as-signed");
  return padded.subarray(4, 4 + size);
}

function readDisclosure(disclosure, name, claims) {
  const parts = strict(disclosure, 10);
  demand(Array.isArray(parts) && parts.length === 3 && parts[1] === name, "not-as-signed");
  demand(!Object.hasOwn(claims, name), "not-as-signed");
  demand(typeof parts[0] === "string" && parts[0].length === 22, "not-as-signed");
  unb64u(parts[0]);
  return parts[2];
}

// Every member of a share is a text but `v`, and none of them needs an escape: sorted, it has one spelling.
function readShare(text) {
  const share = strict(utf8(text), 4);
  const names = ["by", "core", "day", "network", "office", "report", "signature", "suite", "v", "wrap"];
  demand(hasNames(share, ...names) && share.v === 1 && JSON.stringify(share) === text, "malformed");
  checkWrap([share.office, share.suite, share.wrap]);
  return share;
}

// Suite, info and text of the wrap that is to be opened: of the report itself, or of the share before it.
function wrapOf(share, { sharers, network, office, suite }, envelope, claims, core) {
  if (share === undefined) {
    const wrap = envelope.header.w.find(([name, kem]) => name === office && kem === suite);
    demand(wrap, "cannot-open");
    return [suite, format.wrapInfo(office, core), wrap[2]];
  }
  const { signature, ...said } = share;
  demand(said.network === network && said.report === claims.id && said.core === format.b64u(core), "not-as-shared");
  demand(Object.hasOwn(sharers, said.by), "not-the-sharer");
  const signed = Buffer.concat([utf8("kengele-share-v1\0"), utf8(JSON.stringify(said))]);
  demand(isSigned(unb64u(sharers[said.by]), signed, unb64u(signature)), "bad-signature");
  demand(said.office === office, "not-for-us");
  demand(said.suite === suite, "cannot-open");
  return [suite, format.sharedInfo(office, core, said.by), said.wrap];
}

function open({ envelope: text, net, author, office, suite, key, ...more }) {
  const end = text.startsWith('{"by":') ? text.indexOf("\n") : -1;
  const share = end < 0 ? undefined : readShare(text.slice(0, end));
  const envelope = parse(text.slice(end + 1));
  const { claims, _sd } = parsePayload(envelope.payload);
  demand(claims.net === net, "other-network");
  demand(claims.kid === format.kidOf(unb64u(author)), "unknown-monitor");
  demand(isSigned(unb64u(author), format.signed(envelope), unb64u(envelope.signature)), "bad-signature");

  const core = format.coreOf({ ...claims, _sd });
  const [kem, info, wrap] = wrapOf(share, { ...more, office, suite }, envelope, claims, core);
  const plain = orRefuse("cannot-open", () => hpkeOpen(kem, unb64u(key), info, unb64u(wrap)));
  const counter = plain.readBigUInt64BE(1);
  const granted = format.NAMES.filter((_, i) => (plain[0] >> i) & 1);

  const contents = {};
  const disclosures = [];
  for (const name of granted.filter((one) => Object.hasOwn(envelope.header.ct, one))) {
    const at = 9 + SLOT * format.NAMES.indexOf(name);
    const sealed = unb64u(envelope.header.ct[name]);
    const aad = format.ctAad(name, core);
    const disclosure = unpad(orRefuse("cannot-open", () => aeadOpen(plain.subarray(at, at + SLOT), NONCE, sealed, aad)));
    demand(_sd.includes(format.digestOf(disclosure)), "not-as-signed");
    contents[name] = readDisclosure(disclosure, name, claims); // its name is in it, so none can stand for two
    disclosures.push(format.b64u(disclosure));
  }
  demand(counter <= format.MAX_COUNTER, "malformed");
  const withheld = granted.filter((name) => !Object.hasOwn(envelope.header.ct, name));
  const sd_jwt = [`${envelope.protected}.${envelope.payload}.${envelope.signature}`, ...disclosures, ""].join("~");
  return { claims, contents, counter: Number(counter), withheld, sd_jwt };
}

format.main(open);
