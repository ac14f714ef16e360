// Who may read what, from docs/wire-format.md alone.
// stdin: {taxonomy, areas, offices, policies, header, today, caveats} or a list of such, the documents as they are.
// stdout: {office: {bits, rules}}.
import { NAMES, main } from "./format.mjs";

const LEVELS = ["CLEAR", "GREEN", "AMBER", "AMBER+STRICT", "RED"];
const GRANTABLE = NAMES.slice(1);
const bitsOf = (names) => names.reduce((bits, name) => bits | (1 << NAMES.indexOf(name)), 0);

// Every area that a rule may name to speak of `code`. A step to what replaced a code ends the steps to what was
// replaced: of merged areas, one must not cover another.
function above(code, rows) {
  const found = new Set();
  const seen = new Set();
  const climb = (area, back) => {
    if (seen.has(`${area} ${back}`)) return;
    seen.add(`${area} ${back}`);
    found.add(area);
    const { parents = [], replaced_by: by = [] } = rows.get(area);
    parents.forEach((parent) => climb(parent, back));
    if (back) rows.forEach((row, old) => row.replaced_by?.includes(area) && climb(old, true));
    if (by.length === 1) climb(by[0], false);
  };
  if (rows.has(code)) climb(code, true);
  return found;
}

function isWithin(code, group, parents) {
  for (let at = code; at; at = parents.get(at)) if (at === group) return true;
  return group === "*";
}

function members(audience, { offices, groups = {} }) {
  const [kind, name] = audience.split(":");
  if (kind === "group") return groups[name].flatMap((part) => members(part, { offices, groups }));
  return offices.filter(({ id, status = "active" }) => id === name && status === "active").map(({ id }) => id);
}

function speaks(rule, header, today, areas, parents) {
  const { min_severity: low = 1, max_severity: high = 5, tlp_from = "CLEAR", tlp_up_to = "RED" } = rule;
  const level = LEVELS.indexOf(header.tlp);
  const covered = (category) => (rule.categories ?? ["*"]).some((group) => isWithin(category, group, parents));
  return (
    today <= (rule.expires ?? "9999-12-31") &&
    low <= header.severity && header.severity <= high &&
    LEVELS.indexOf(tlp_from) <= level && level <= LEVELS.indexOf(tlp_up_to) &&
    (rule.areas ?? ["*"]).some((area) => area === "*" || areas.has(area)) &&
    (rule.grant ? header.categories.every(covered) : header.categories.some(covered))
  );
}

function release({ taxonomy, areas, offices, policies, header, today, caveats }) {
  const rows = new Map(areas.areas.map((row) => [row.code, row]));
  const parents = new Map(taxonomy.categories.map(({ code, parent }) => [code, parent]));
  const around = above(header.area, rows);
  const rules = policies.flatMap((policy) => policy.rules).filter((rule) => speaks(rule, header, today, around, parents));
  const released = {};
  for (const { id } of offices.offices) {
    const own = rules.filter((rule) => rule.to.some((audience) => members(audience, offices).includes(id)));
    const sum = (kind) => own.reduce((bits, rule) => bits | bitsOf(rule[kind] ?? []), 0);
    const granted = sum("grant");
    const left = granted & ~sum("forbid");
    // One rule for each compartment: the first forbid of what was granted, else the first grant.
    const first = (kind, name) => own.filter((rule) => rule[kind]?.includes(name)).map((rule) => rule.id).sort()[0];
    const decided = new Set(GRANTABLE.filter((name) => bitsOf([name]) & granted).map((name) => first("forbid", name) ?? first("grant", name)));
    const taken = caveats
      .filter(({ not_to }) => not_to.some((audience) => members(audience, offices).includes(id)))
      .reduce((bits, { compartments: some = ["*"] }) => bits | bitsOf(some.includes("*") ? GRANTABLE : some), 0);
    if (left & ~taken) released[id] = { bits: (left & ~taken) | 1, rules: [...decided].sort() };
  }
  return released;
}

main(release);
