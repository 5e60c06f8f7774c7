"use strict";
// One comparison at a time: both pictures are loaded before either is shown, so that neither has a head start.
const element = (id) => document.getElementById(id);
const KEYS = { ArrowLeft: "left", ArrowRight: "right", ArrowDown: "tie" };
let voter = null;
let current = null; // the comparison that is shown
let history = []; // comparisons decided on this page, for going back
let shownAt = 0;
let busy = true;

async function ask(path, body) {
  const options = body === undefined ? {} : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const answer = await fetch(path, options);
  const facts = await answer.json();
  if (!answer.ok) throw new Error(facts.detail || answer.statusText);
  return facts;
}

function remembered() {
  try { return localStorage.getItem("impasto-voter"); } catch { return null; }
}

function remember(id) {
  try { localStorage.setItem("impasto-voter", id); } catch { /* private windows: the visit is then one voter */ }
}

async function enter() {
  const known = remembered();
  const state = known ? await ask(`/v1/voters/${encodeURIComponent(known)}`) : await ask("/v1/voters", {});
  voter = state.voter;
  remember(voter);
  await show(state);
}

function loaded(address) {
  const image = new Image();
  image.src = address;
  return image.decode().then(() => image);
}

async function show(state) {
  element("question").textContent = state.question;
  element("progress").max = Math.max(1, state.total);
  element("progress").value = state.done;
  element("count").textContent = `${state.done} / ${state.total}`;
  element("tie").hidden = !state.ties;
  if (state.comparison === null) {
    current = null;
    element("booth").hidden = true;
    element("thanks").hidden = false;
    element("thanks").focus();
    return;
  }
  await present(state.comparison);
}

async function present(comparison) {
  const sides = ["left", "right", ...(comparison.reference ? ["reference"] : [])];
  await Promise.all(sides.map((side) => loaded(comparison[side])));
  for (const side of sides) element(`picture-${side}`).src = comparison[side];
  element("reference").hidden = !comparison.reference;
  element("thanks").hidden = true;
  element("booth").hidden = false;
  element("back").disabled = history.length === 0;
  document.querySelectorAll(".chosen").forEach((one) => one.classList.remove("chosen"));
  current = comparison;
  shownAt = performance.now();
  settled(true);
}

function settled(ready) {
  busy = !ready;
  element("booth").dataset.ready = ready ? "yes" : "no";
}

async function guarded(work) {
  settled(false);
  element("trouble").hidden = true;
  try {
    await work();
  } catch (error) {
    element("trouble").textContent = `${error.message}. Reload the page to go on.`;
    element("trouble").hidden = false;
    settled(true);
  }
}

function choose(choice) {
  if (busy || current === null || (choice === "tie" && element("tie").hidden)) return;
  element(choice).classList.add("chosen");
  const ballot = { number: current.number, choice, seconds: (performance.now() - shownAt) / 1000 };
  guarded(async () => {
    const state = await ask(`/v1/voters/${encodeURIComponent(voter)}/votes`, ballot);
    history.push(current);
    await show(state);
  });
}

function back() {
  if (busy || history.length === 0) return;
  const previous = history.pop();
  guarded(() => present(previous));
}

document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || event.repeat) return;
  if (event.key in KEYS) {
    event.preventDefault();
    choose(KEYS[event.key]);
  } else if (event.key === "Backspace") {
    event.preventDefault();
    back();
  }
});
document.querySelectorAll("[data-choice]").forEach((button) => button.addEventListener("click", () => choose(button.dataset.choice)));
element("back").addEventListener("click", back);
guarded(enter);
