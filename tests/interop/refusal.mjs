// Why something is not taken: one of the codes of docs/wire-format.md.
export class Refusal extends Error {
  constructor(code) {
    super(code);
    this.code = code;
  }
}

export const demand = (truth, code) => {
  if (!truth) throw new Refusal(code);
};
