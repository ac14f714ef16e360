// Makes wraps from given randomness, for test vectors. stdin: [{suite, public, info, plain, random}], all base64url but
// the suite. stdout: the wraps, base64url.
import { hpkeSeal } from "./hpke.mjs";
import { b64u, main, unb64u } from "./format.mjs";

main(({ suite, public: key, info, plain, random }) =>
  b64u(hpkeSeal(suite, unb64u(key), unb64u(info), unb64u(plain), () => unb64u(random))),
);
