// Reads an exported log from its files alone, as c2sp.org/tlog-tiles, tlog-checkpoint, tlog-cosignature and RFC 6962
// define them: the tree from every entry, the tree from the hashes, signatures, and proofs between random places.
//
//     node log.mjs DIR  < {"log": …, "key": b64u, "witnesses": {name: b64u}, "seed": n, "proofs": n}

import { createHash, createPublicKey, verify } from "node:crypto";
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";

const WIDTH = 256;
const HASH = 32;

const sha256 = (...parts) => {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest();
};
const leafHash = (entry) => sha256(Buffer.from([0]), entry);
const nodeHash = (left, right) => sha256(Buffer.from([1]), left, right);

class Bad extends Error {}
const must = (holds, what) => {
  if (!holds) throw new Bad(what);
};

// --- files

const DIRECTORY = process.argv[2];

function numbered(number) {
  const parts = [String(number % 1000).padStart(3, "0")];
  for (let rest = Math.floor(number / 1000); rest > 0; rest = Math.floor(rest / 1000)) {
    parts.unshift(`x${String(rest % 1000).padStart(3, "0")}`);
  }
  return parts.join("/");
}

function tileFile(level, number, width) {
  const path = `tile/${level}/${numbered(number)}${width < WIDTH ? `.p/${width}` : ""}`;
  must(existsSync(join(DIRECTORY, path)), `missing ${path}`);
  return readFileSync(join(DIRECTORY, path));
}

function* entriesOf(size) {
  for (let number = 0; number * WIDTH < size; number += 1) {
    const width = Math.min(WIDTH, size - number * WIDTH);
    const data = tileFile("entries", number, width);
    let at = 0;
    for (let count = 0; count < width; count += 1) {
      must(at + 2 <= data.length, "bundle cut short");
      const end = at + 2 + data.readUInt16BE(at);
      must(end <= data.length, "bundle cut short");
      yield data.subarray(at + 2, end);
      at = end;
    }
    must(at === data.length, "bundle with more than its entries");
  }
}

// --- the tree, grown leaf by leaf: what is kept are the roots of whole subtrees from left to right

function rootOfLeaves(hashes) {
  const stack = [];
  let count = 0;
  for (const hash of hashes) {
    let node = hash;
    for (let bits = count; bits & 1; bits >>= 1) node = nodeHash(stack.pop(), node);
    stack.push(node);
    count += 1;
  }
  if (!stack.length) return sha256();
  return stack.reduceRight((right, left) => nodeHash(left, right));
}

// --- the same tree from tiles: each hash of a tile is the root of 256**level leaves

function loadTiles(size) {
  const levels = [];
  for (let count = size, level = 0; count > 0; count = Math.floor(count / WIDTH), level += 1) {
    const row = [];
    for (let number = 0; number * WIDTH < count; number += 1) {
      const width = Math.min(WIDTH, count - number * WIDTH);
      const data = tileFile(level, number, width);
      must(data.length === width * HASH, "tile of another width");
      for (let at = 0; at < data.length; at += HASH) row.push(data.subarray(at, at + HASH));
    }
    levels.push(row);
  }
  return levels;
}

// MTH(D[start:end]) of RFC 6962 §2.1; whole subtrees of 256**level leaves are looked up.
function hashOf(levels, start, end) {
  const count = end - start;
  for (let level = levels.length - 1; level >= 0; level -= 1) {
    const span = WIDTH ** level;
    if (count === span && start % span === 0) return levels[level][start / span];
  }
  let split = 1;
  while (split * 2 < count) split *= 2;
  return nodeHash(hashOf(levels, start, start + split), hashOf(levels, start + split, end));
}

const rootOf = (levels, size) => (size === 0 ? sha256() : hashOf(levels, 0, size));

function checkTiles(levels) {
  for (let level = 1; level < levels.length; level += 1) {
    levels[level].forEach((hash, place) => {
      const below = levels[level - 1].slice(place * WIDTH, (place + 1) * WIDTH);
      must(below.length === WIDTH && rootOfLeaves(below).equals(hash), `tile of level ${level} above other hashes`);
    });
  }
}

// --- proofs: made as RFC 6962 §2.1.1 and §2.1.2 write them, checked as RFC 9162 §2.1.3.2 and §2.1.4.2 do

function path(levels, index, start, end) {
  if (end - start === 1) return [];
  let split = 1;
  while (split * 2 < end - start) split *= 2;
  const middle = start + split;
  return index < middle
    ? [...path(levels, index, start, middle), hashOf(levels, middle, end)]
    : [...path(levels, index, middle, end), hashOf(levels, start, middle)];
}

function subproof(levels, old, start, end, whole) {
  if (old === end - start) return whole ? [] : [hashOf(levels, start, end)];
  let split = 1;
  while (split * 2 < end - start) split *= 2;
  const middle = start + split;
  return old <= split
    ? [...subproof(levels, old, start, middle, whole), hashOf(levels, middle, end)]
    : [...subproof(levels, old - split, middle, end, false), hashOf(levels, start, middle)];
}

const half = (number) => Math.floor(number / 2);

function includes(leaf, index, size, proof, root) {
  if (index < 0 || index >= size) return false;
  let [at, last, hash] = [index, size - 1, leaf];
  for (const step of proof) {
    if (last === 0) return false;
    if (at % 2 === 1 || at === last) {
      hash = nodeHash(step, hash);
      while (at % 2 === 0 && at !== 0) [at, last] = [half(at), half(last)];
    } else {
      hash = nodeHash(hash, step);
    }
    [at, last] = [half(at), half(last)];
  }
  return last === 0 && hash.equals(root);
}

function continues(old, size, proof, oldRoot, root) {
  if (old === size) return proof.length === 0 && oldRoot.equals(root);
  if (old === 0) return proof.length === 0;
  const power = 2 ** Math.floor(Math.log2(old)) === old;
  const steps = power ? [oldRoot, ...proof] : [...proof];
  if (!steps.length) return false;
  let [at, last] = [old - 1, size - 1];
  while (at % 2 === 1) [at, last] = [half(at), half(last)];
  let [first, second] = [steps[0], steps[0]];
  for (const step of steps.slice(1)) {
    if (last === 0) return false;
    if (at % 2 === 1 || at === last) {
      [first, second] = [nodeHash(step, first), nodeHash(step, second)];
      while (at % 2 === 0 && at !== 0) [at, last] = [half(at), half(last)];
    } else {
      second = nodeHash(second, step);
    }
    [at, last] = [half(at), half(last)];
  }
  return last === 0 && first.equals(oldRoot) && second.equals(root);
}

// --- notes

const SPKI = Buffer.from("302a300506032b6570032100", "hex");
const publicKey = (raw) => createPublicKey({ key: Buffer.concat([SPKI, raw]), format: "der", type: "spki" });
const keyId = (name, type, raw) => sha256(`${name}\n`, Buffer.from([type]), raw).subarray(0, 4);

function readNote(text, log, key, witnesses) {
  const at = text.lastIndexOf("\n\n");
  must(at >= 0, "no note");
  const body = text.slice(0, at + 1);
  const [origin, size, root] = body.split("\n");
  must(origin === log && /^(0|[1-9][0-9]*)$/.test(size), "another log");
  let signed = false;
  const cosigned = {};
  for (const line of text.slice(at + 2).split("\n").filter(Boolean)) {
    const [dash, name, encoded] = line.split(" ");
    must(dash === "\u2014", "no signature line");
    const blob = Buffer.from(encoded, "base64");
    if (name === log && blob.subarray(0, 4).equals(keyId(log, 1, key))) {
      must(verify(null, Buffer.from(body), publicKey(key), blob.subarray(4)), "the log's signature");
      signed = true;
    } else if (name in witnesses && blob.subarray(0, 4).equals(keyId(name, 4, witnesses[name]))) {
      const time = blob.readBigUInt64BE(4);
      const said = Buffer.from(`cosignature/v1\ntime ${time}\n${body}`);
      must(verify(null, said, publicKey(witnesses[name]), blob.subarray(12)), `the cosignature of ${name}`);
      cosigned[name] = Number(time);
    }
  }
  must(signed, "no signature of the log");
  return { size: Number(size), root: Buffer.from(root, "base64"), cosigned };
}

// --- what is asked

function random(seed) {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

function examine(asked) {
  const key = Buffer.from(asked.key, "base64url");
  const witnesses = Object.fromEntries(
    Object.entries(asked.witnesses).map(([name, raw]) => [name, Buffer.from(raw, "base64url")]),
  );
  const read = (name) => readNote(readFileSync(join(DIRECTORY, name), "utf8"), asked.log, key, witnesses);
  const checkpoint = read("checkpoint");
  const witnessed = read("witnessed");
  const { size, root } = checkpoint;
  const leaves = [...entriesOf(size)].map(leafHash);
  must(leaves.length === size && rootOfLeaves(leaves).equals(root), "root from entries");
  const levels = loadTiles(size);
  must(size === 0 || levels[0].every((hash, place) => hash.equals(leaves[place])), "hashes of the entries");
  checkTiles(levels);
  must(rootOf(levels, size).equals(root), "root from tiles");
  must(rootOf(levels, witnessed.size).equals(witnessed.root), "root that was witnessed");
  const next = random(asked.seed);
  const inclusions = [];
  const consistencies = [];
  for (let count = 0; count < asked.proofs && size > 0; count += 1) {
    const upTo = 1 + next(size);
    const index = next(upTo);
    const proof = path(levels, index, 0, upTo);
    must(includes(leaves[index], index, upTo, proof, rootOf(levels, upTo)), "inclusion");
    must(!includes(leaves[index], index, upTo, [...proof, root], rootOf(levels, upTo)), "inclusion with more");
    must(upTo === 1 || !includes(leaves[(index + 1) % upTo], index, upTo, proof, rootOf(levels, upTo)), "another's place");
    inclusions.push({ index, size: upTo, path: proof.map((one) => one.toString("base64url")) });
    const old = next(upTo + 1);
    const steps = old === 0 ? [] : subproof(levels, old, 0, upTo, true);
    must(continues(old, upTo, steps, rootOf(levels, old), rootOf(levels, upTo)), "consistency");
    must(old === 0 || !continues(old, upTo, steps, sha256("other"), rootOf(levels, upTo)), "consistency of another");
    consistencies.push({ old, size: upTo, path: steps.map((one) => one.toString("base64url")) });
  }
  for (const one of asked.inclusions ?? []) {
    const proof = one.path.map((step) => Buffer.from(step, "base64url"));
    must(includes(leaves[one.index], one.index, one.size, proof, rootOf(levels, one.size)), "an inclusion of Kengele's");
  }
  for (const one of asked.consistencies ?? []) {
    const proof = one.path.map((step) => Buffer.from(step, "base64url"));
    const roots = [rootOf(levels, one.old), rootOf(levels, one.size)];
    must(continues(one.old, one.size, proof, ...roots), "a consistency of Kengele's");
  }
  return {
    size,
    root: root.toString("base64url"),
    witnessed: witnessed.size,
    cosigned: witnessed.cosigned,
    inclusions,
    consistencies,
    files: readdirSync(DIRECTORY, { recursive: true }).length,
  };
}

let answer;
try {
  answer = examine(JSON.parse(readFileSync(0, "utf8")));
} catch (error) {
  if (!(error instanceof Bad)) throw error;
  answer = { error: error.message };
}
process.stdout.write(JSON.stringify(answer));
