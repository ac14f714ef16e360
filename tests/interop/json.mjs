// JSON as the wire format reads it: RFC 8259, and stricter where two readers could understand two things.
// JSON.parse takes the last of two equal names, rounds large integers and lets lone surrogates pass.
import { Refusal } from "./refusal.mjs";

const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
const STRING = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;
const SPACE = /[ \t\n\r]*/y;

// `fatal` refuses what is not UTF-8; `ignoreBOM` keeps a byte order mark, which is then no JSON.
function decode(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new Refusal("malformed");
  }
}

export function strict(bytes, maxDepth) {
  const text = decode(bytes);
  let at = 0;
  const fail = (code = "malformed") => { throw new Refusal(code); };
  const match = (pattern) => {
    pattern.lastIndex = at;
    const found = pattern.exec(text)?.[0];
    if (found === undefined) fail();
    at += found.length;
    return found;
  };
  const skip = () => match(SPACE);
  const take = (token) => text.startsWith(token, at) && ((at += token.length), true);
  const string = () => {
    const found = JSON.parse(match(STRING));
    return found.isWellFormed() ? found : fail();
  };
  const list = (close, item) => {
    skip();
    if (take(close)) return;
    do { skip(); item(); skip(); } while (take(","));
    if (!take(close)) fail();
  };
  function value(depth) {
    if (take("{")) {
      if (depth === maxDepth) fail();
      const found = new Map(); // fromEntries then makes "__proto__" a name like any other
      list("}", () => {
        const name = string();
        skip();
        if (!take(":")) fail();
        skip();
        const member = value(depth + 1);
        if (found.has(name)) fail("duplicate-key");
        found.set(name, member);
      });
      return Object.fromEntries(found);
    }
    if (take("[")) {
      if (depth === maxDepth) fail();
      const found = [];
      list("]", () => found.push(value(depth + 1)));
      return found;
    }
    if (text[at] === '"') return string();
    if (take("true")) return true;
    if (take("false")) return false;
    if (take("null")) return null;
    const digits = match(NUMBER);
    const number = Number(digits);
    // 2^53 + 1 is read as 2^53, so the digits are looked at.
    if (!Number.isFinite(number) || (/^-?[0-9]+$/.test(digits) && BigInt(digits.replace("-", "")) > 2n ** 53n)) fail();
    return number;
  }
  skip();
  const found = value(0);
  skip();
  return at === text.length ? found : fail();
}
