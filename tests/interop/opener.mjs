// Opens a tension report with nothing but Node.js, from docs/wire-format.md alone.
// stdin: {envelope, author, office, key} (key: X25519 private, base64url). stdout: {claims, contents, counter}.
import crypto from "node:crypto";
import fs from "node:fs";

const NAMES = ["handling", "summary", "account", "place", "people", "source", "media"];
const b64 = (text) => Buffer.from(text, "base64url");
const enc = (data) => Buffer.from(data).toString("base64url");
const sha256 = (...parts) => crypto.createHash("sha256").update(Buffer.concat(parts)).digest();
const hmac = (key, ...parts) => crypto.createHmac("sha256", key).update(Buffer.concat(parts)).digest();
const utf8 = (text) => Buffer.from(text, "utf8");
const fail = (why) => { console.log(JSON.stringify({ error: why })); process.exit(1); };

const u32 = (n) => { const b = Buffer.alloc(4); b.writeUInt32BE(n); return b; };
const prefixed = (...parts) => Buffer.concat(parts.flatMap((part) => [u32(part.length), part]));

function expand(key, info, size) {
  let out = Buffer.alloc(0), last = Buffer.alloc(0);
  for (let i = 1; out.length < size; i++) { last = hmac(key, last, info, Buffer.from([i])); out = Buffer.concat([out, last]); }
  return out.subarray(0, size);
}
const u16 = (n) => Buffer.from([n >> 8, n & 255]);
const labeledExtract = (suite, salt, label, ikm) => hmac(salt.length ? salt : Buffer.alloc(32), utf8("HPKE-v1"), suite, utf8(label), ikm);
const labeledExpand = (suite, prk, label, info, size) => expand(prk, Buffer.concat([u16(size), utf8("HPKE-v1"), suite, utf8(label), info]), size);

function x25519(privateRaw, publicRaw) {
  const pkcs8 = Buffer.concat([Buffer.from("302e020100300506032b656e04220420", "hex"), privateRaw]);
  const spki = Buffer.concat([Buffer.from("302a300506032b656e032100", "hex"), publicRaw]);
  const privateKey = crypto.createPrivateKey({ key: pkcs8, format: "der", type: "pkcs8" });
  const own = crypto.createPublicKey(privateKey).export({ format: "der", type: "spki" }).subarray(-32);
  const publicKey = crypto.createPublicKey({ key: spki, format: "der", type: "spki" });
  return { shared: crypto.diffieHellman({ privateKey, publicKey }), own };
}

// HPKE base mode, single shot (RFC 9180 section 6.1): DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305.
function hpkeOpen(key, sealed, info) {
  const encapsulated = sealed.subarray(0, 32);
  const { shared, own } = x25519(key, encapsulated);
  const kem = Buffer.concat([utf8("KEM"), u16(0x0020)]);
  const prk = labeledExtract(kem, Buffer.alloc(0), "eae_prk", shared);
  const secret = labeledExpand(kem, prk, "shared_secret", Buffer.concat([encapsulated, own]), 32);
  const suite = Buffer.concat([utf8("HPKE"), u16(0x0020), u16(0x0001), u16(0x0003)]);
  const context = Buffer.concat([Buffer.from([0]), labeledExtract(suite, Buffer.alloc(0), "psk_id_hash", Buffer.alloc(0)),
    labeledExtract(suite, Buffer.alloc(0), "info_hash", info)]);
  const main = labeledExtract(suite, secret, "secret", Buffer.alloc(0));
  return aeadOpen(labeledExpand(suite, main, "key", context, 32), labeledExpand(suite, main, "base_nonce", context, 12),
    sealed.subarray(32), Buffer.alloc(0));
}

function aeadOpen(key, nonce, sealed, aad) {
  const decipher = crypto.createDecipheriv("chacha20-poly1305", key, nonce, { authTagLength: 16 });
  decipher.setAAD(aad, { plaintextLength: sealed.length - 16 });
  decipher.setAuthTag(sealed.subarray(-16));
  return Buffer.concat([decipher.update(sealed.subarray(0, -16)), decipher.final()]);
}

const input = JSON.parse(fs.readFileSync(0, "utf8"));
const envelope = JSON.parse(input.envelope);
const header = JSON.parse(b64(envelope.protected));
if (header.alg !== "Ed25519" || header.typ !== "tension-report+sd-jwt") fail("unknown-type");
const author = crypto.createPublicKey({ key: Buffer.concat([Buffer.from("302a300506032b6570032100", "hex"), b64(input.author)]), format: "der", type: "spki" });
if (!crypto.verify(null, utf8(`${envelope.protected}.${envelope.payload}`), author, b64(envelope.signature))) fail("bad-signature");
const { _sd, _sd_alg, ctr, ...claims } = JSON.parse(b64(envelope.payload));
if (_sd_alg !== "sha-256") fail("malformed");
const core = sha256(prefixed(utf8("kengele-core-v1"), ...[header.typ, claims.kid, String(claims.id), String(claims.pol)].map(utf8), ..._sd.map(utf8)));
const wrap = envelope.header.w.find(([office, suite]) => office === input.office && suite === "X25519");
if (!wrap) fail("cannot-open");
try {
  const keys = hpkeOpen(b64(input.key), b64(wrap[2]), prefixed(utf8("kengele-wrap-v1"), utf8(input.office), core));
  const contents = {};
  NAMES.forEach((name, i) => {
    if (!(keys[0] >> i & 1) || !(name in envelope.header.ct)) return;
    const key = keys.subarray(9 + 32 * i, 41 + 32 * i);
    const padded = aeadOpen(key, Buffer.alloc(12), b64(envelope.header.ct[name]), prefixed(utf8("kengele-ct-v1"), utf8(name), core));
    const disclosure = padded.subarray(4, 4 + padded.readUInt32BE(0));
    if (!_sd.includes(enc(sha256(utf8(enc(disclosure)))))) fail("not-as-signed");
    const [, claim, value] = JSON.parse(disclosure);
    if (claim !== name) fail("not-as-signed");
    contents[name] = value;
  });
  console.log(JSON.stringify({ claims, contents, counter: Number(keys.readBigUInt64BE(1)) }));
} catch {
  fail("cannot-open");
}
