// Draws the effect anew while a rule is edited. Without this script the page shows it after each saving.
const rule = document.getElementById("rule");
const look = document.getElementById("look");
const effect = document.getElementById("effect");
let waiting;
let latest = 0;

async function redraw() {
  const number = ++latest;
  const form = new FormData(rule ?? undefined);
  for (const [name, value] of new FormData(look)) form.set(name, value);
  effect.classList.add("busy");
  try {
    const answer = await fetch(rule.dataset.effect, { method: "POST", body: form });
    const text = await answer.text();
    // An answer that was overtaken by a later one says what no longer stands in the form.
    if (number === latest && answer.ok) effect.innerHTML = text;
  } catch {
    // The page goes on without it; saving shows the effect as well.
  } finally {
    effect.classList.remove("busy");
  }
}

function soon() {
  clearTimeout(waiting);
  waiting = setTimeout(redraw, 200);
}

if (rule) {
  rule.addEventListener("input", soon);
  look.addEventListener("input", soon);
  look.addEventListener("submit", (event) => {
    event.preventDefault();
    redraw();
  });
}
