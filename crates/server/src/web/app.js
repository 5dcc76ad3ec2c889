// The first page: one snapshot, shown, and the wait for the next one.
//
// Text from rigs and agents is hostile: it only ever becomes text nodes. When polling fails, or the
// data is older than a poll may take, the page says so and looks it: it never looks healthy then.
"use strict";

const POLL_MS = 25000; // the longest wait for a change
const STALE_MS = POLL_MS + 15000; // older data than this is called old, whatever the connection says
const GAP_MS = 400; // between polls, so that a busy town does not keep a phone busy
const WORDS = {
  open: "Open", in_progress: "In progress", waiting: "Waiting", in_review: "In review",
  closed: "Closed", failed: "Failed",
};

const $ = (id) => document.getElementById(id);
const state = {
  snapshot: null, receivedAt: 0, offsetMs: 0, error: null, filter: "all", retryMs: 1000, needs: null,
};
const rows = new Map(); // "rig/bead" → its row; kept, so that focus and selection survive

// ── small helpers ────────────────────────────────────────────────────────────────────────────────

function make(tag, className, parent) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (parent) parent.append(element);
  return element;
}

function say(element, text) {
  const value = text ?? "";
  if (element.textContent !== value) element.textContent = value;
  element.hidden = value === "";
}

/** Puts children in this order and drops all others, touching only what moved. */
function arrange(parent, children) {
  children.forEach((child, index) => {
    if (parent.children[index] !== child) parent.insertBefore(child, parent.children[index] ?? null);
  });
  while (parent.children.length > children.length) parent.lastElementChild.remove();
}

const now = () => Date.now() + state.offsetMs; // the server's clock
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function span(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 90) return `${s} s`;
  const m = Math.floor(s / 60);
  if (m < 90) return `${m} min ${String(s % 60).padStart(2, "0")} s`;
  return `${Math.floor(m / 60)} h ${m % 60} min`;
}

class Refused extends Error {
  constructor(status, text) { super(text); this.status = status; }
}

async function ask(path, options = {}) {
  const response = await fetch(path, { credentials: "same-origin", cache: "no-store", ...options });
  let body = null;
  try { body = await response.json(); } catch { /* said below */ }
  if (!response.ok || !body || body.success !== true) {
    throw new Refused(response.status, body?.error ?? `the server answered ${response.status}`);
  }
  return body.data;
}

const post = (path, body, headers = {}) => ask(path, {
  method: "POST",
  headers: { "Content-Type": "application/json", ...headers },
  body: JSON.stringify(body),
});

// ── signing in ───────────────────────────────────────────────────────────────────────────────────

async function useKey() {
  const key = new URLSearchParams(location.hash.slice(1)).get("key");
  if (!key) return;
  history.replaceState(null, "", location.pathname); // no secret stays in the address or history
  try { await post("/api/session", { key }); } catch { /* an old session may still be good */ }
}

function askToSignIn(why) {
  $("signin").hidden = false;
  $("board").hidden = true;
  $("needs").hidden = true;
  say($("signin-error"), why);
}

$("signin-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const input = $("token");
  try {
    await post("/api/session", {}, { Authorization: `Bearer ${input.value.trim()}` });
    input.value = "";
    $("signin").hidden = true;
    watch();
  } catch (error) {
    say($("signin-error"), error.status === 401 ? "That token is not known here." : error.message);
  }
});

// ── polling ──────────────────────────────────────────────────────────────────────────────────────

let watching = false;

async function watch() {
  if (watching) return;
  watching = true;
  while (watching) {
    try {
      const after = state.error === null ? state.snapshot?.version : undefined;
      const query = after ? `?after=${encodeURIComponent(after)}&wait_ms=${POLL_MS}` : "";
      const snapshot = await ask(`/api/snapshot${query}`, { signal: AbortSignal.timeout(STALE_MS) });
      received(snapshot);
      await sleep(GAP_MS);
    } catch (error) {
      state.error = error;
      showLink();
      if (error.status === 401) {
        watching = false;
        askToSignIn(state.snapshot ? "Your session has ended." : "");
        return;
      }
      await sleep(state.retryMs);
      state.retryMs = Math.min(state.retryMs * 2, 10000);
    }
  }
}

function received(snapshot) {
  const before = state.snapshot;
  Object.assign(state, { snapshot, receivedAt: Date.now(), error: null, retryMs: 1000 });
  state.offsetMs = Date.parse(snapshot.server_time) - Date.now();
  $("signin").hidden = true;
  $("board").hidden = false;
  render();
  announce(before, snapshot);
}

// ── the state of the connection ──────────────────────────────────────────────────────────────────

function showLink() {
  const ageMs = Date.now() - state.receivedAt;
  const isOld = state.snapshot !== null && ageMs > STALE_MS;
  const isLost = state.error !== null && state.error.status !== 401;
  const link = $("link");
  const shown = isLost || isOld ? "lost" : state.snapshot && !state.error ? "live" : "none";
  if (link.className !== `link ${shown}`) link.className = `link ${shown}`;
  const words = { lost: "Connection lost", live: "Live", none: state.error ? "Not signed in" : "Connecting…" };
  say(link, words[shown]);
  document.body.classList.toggle("is-stale", shown === "lost");
  const age = state.snapshot ? `data is ${span(ageMs)} old` : "there is no data yet";
  say($("stale"), shown === "lost" ? `Connection lost, ${age}.` : "");
}

// ── showing ──────────────────────────────────────────────────────────────────────────────────────

function render() {
  const { towns, rigs, needs_you: needs } = state.snapshot;
  const badge = $("needs");
  badge.classList.toggle("none", needs === 0);
  say(badge, needs === 0 ? "Nothing needs you" : `${needs} ${needs === 1 ? "thing needs" : "things need"} you`);
  renderEscalations(rigs);
  const seen = new Set();
  arrange($("towns"), towns.map((town) => renderTown(town, seen)));
  arrange($("rigs"), rigs.map((rig) => renderRig(rig, seen)));
  for (const key of rows.keys()) if (!seen.has(key)) rows.delete(key);
  $("empty").hidden = rigs.length > 0;
  tick();
}

function row(key, build, seen) {
  seen.add(key);
  if (!rows.has(key)) rows.set(key, build());
  return rows.get(key);
}

function renderEscalations(rigs) {
  // What is counted comes first: unseen escalations, and work that waits for a review.
  const all = rigs.flatMap((rig) => [
    ...rig.escalations.map((bead) => (
      { rig, bead, title: bead.count > 1 ? `${bead.title} (${bead.count} times)` : bead.title, text: bead.body })),
    ...rig.beads.filter((bead) => bead.status === "in_review").map((bead) => (
      { rig, bead, title: `Review: ${bead.title}`, text: bead.branch && `branch ${bead.branch}` })),
  ]);
  all.sort((a, b) => Boolean(a.bead.acknowledged) - Boolean(b.bead.acknowledged));
  $("escalations").hidden = all.length === 0;
  const list = $("escalation-list");
  arrange(list, all.map(({ rig, bead, title, text }, index) => {
    const item = list.children[index] ?? buildEscalation();
    say(item.children[0], title);
    say(item.children[1], text);
    const seen = bead.acknowledged ? ` · seen by ${bead.acknowledged.by}` : "";
    say(item.children[2], `${rig.name} · since ${since(bead.created_at)}${seen}`);
    item.dataset.id = bead.id;
    item.children[3].hidden = bead.type !== "escalation" || Boolean(bead.acknowledged);
    item.children[4].hidden = bead.type !== "escalation";
    return item;
  }));
}

function buildEscalation() {
  const item = make("li", "escalation");
  make("h3", "", item);
  make("p", "", item);
  make("p", "facts", item);
  // One item shows one escalation after the other: the id is read when it is pressed.
  const path = (verb) => () => `/api/escalations/${encodeURIComponent(item.dataset.id)}/${verb}`;
  button(item, "I have seen it", path("ack"));
  button(item, "Resolve", path("resolve"));
  return item;
}

// ── what a person or a breaker holds back ─────────────────────────────────────────────────────────

const since = (at) => new Date(at).toLocaleString();

function button(parent, words, path) {
  const element = make("button", "", parent);
  element.type = "button";
  element.textContent = words;
  element.addEventListener("click", () => act(element, path()));
  return element;
}

/** Pause, stop and resume of a rig or a town, the banner that says which is in force, the budget. */
function buildHolds(head, root, base) {
  const controls = make("div", "controls", head);
  const order = (verb) => () => `${base}/${verb}`;
  const pause = button(controls, "Pause", order("pause"));
  const stop = button(controls, "Stop now", order("stop"));
  const resume = button(controls, "Resume", order("resume"));
  const banner = make("p", "held", root);
  const budget = make("div", "budget", root);
  const bar = make("progress", "", budget);
  bar.max = 1;
  bar.setAttribute("aria-label", "Budget of the day");
  const sums = make("span", "facts", budget);
  return { pause, stop, resume, banner, budget, bar, sums };
}

function renderHolds(ui, name, paused, budget) {
  ui.pause.hidden = paused !== null;
  ui.stop.hidden = paused?.mode === "stop";
  ui.resume.hidden = paused === null;
  for (const one of [ui.pause, ui.stop, ui.resume]) one.setAttribute("aria-label", `${one.textContent}: ${name}`);
  ui.banner.className = `held ${paused?.mode ?? ""}`;
  const word = paused?.mode === "stop" ? "Stopped" : "Paused";
  const why = paused?.reason ? `: ${paused.reason}` : "";
  say(ui.banner, paused ? `${word} by ${paused.by} since ${since(paused.at)}${why}` : "");
  renderBudget(ui, budget);
}

function renderBudget(ui, { day, spent, warned, stopped }) {
  const { cost_usd: usd, input_tokens: read, output_tokens: written, estimated } = spent.today;
  const parts = [];
  if (day.usd !== null) parts.push([usd / day.usd, `$${usd.toFixed(2)} of $${day.usd.toFixed(2)}`]);
  if (day.tokens !== null) parts.push([(read + written) / day.tokens, `${read + written} of ${day.tokens} tokens`]);
  ui.budget.hidden = parts.length === 0;
  ui.budget.className = `budget ${stopped ? "full" : warned ? "near" : ""}`;
  // A limit of nothing is used up from the start.
  ui.bar.value = Math.min(1, Math.max(0, ...parts.map(([share]) => (Number.isFinite(share) ? share : 1))));
  const words = [...parts.map(([, text]) => text), stopped ? "used up today" : "", estimated ? "at most: partly estimated" : ""];
  say(ui.sums, words.filter(Boolean).join(" · "));
}

function buildTown(town) {
  const base = `/api/towns/${encodeURIComponent(town.id)}`;
  const root = make("section", "rig", null);
  const head = make("header", "", root);
  const name = make("h2", "", head);
  name.id = `town-${town.id}`;
  root.setAttribute("aria-labelledby", name.id);
  const facts = make("p", "", head);
  const holds = buildHolds(head, root, base);
  return { root, name, facts, holds, breakers: make("div", "", root), base };
}

function renderTown(town, seen) {
  const ui = row(`town ${town.id}`, () => buildTown(town), seen);
  say(ui.name, `Town ${town.name}`);
  const wait = town.waiting.length;
  const waits = wait === 0 ? "" : ` · ${wait} ${wait === 1 ? "rig waits" : "rigs wait"}`;
  say(ui.facts, `${town.slots.used} of ${town.slots.max} slots used${waits}`);
  renderHolds(ui.holds, `town ${town.name}`, town.paused, town.budget);
  arrange(ui.breakers, town.breakers.map((breaker) => {
    const key = `breaker ${town.id} ${breaker.name}`;
    const shown = row(key, () => buildBreaker(() => `${ui.base}/breakers/reset`), seen);
    renderBreaker(shown, breaker, `${breaker.name} · `);
    return shown.breaker;
  }));
  return ui.root;
}

function buildBreaker(path) {
  const breaker = make("div", "breaker", null);
  const reason = make("p", "", breaker);
  const probe = make("span", "when", breaker);
  button(breaker, "Try again now", path);
  return { breaker, reason, probe };
}

function buildRig(id) {
  const root = make("section", "rig");
  const head = make("header", "", root);
  const name = make("h2", "", head);
  name.id = `rig-${id}`;
  root.setAttribute("aria-labelledby", name.id);
  const facts = make("p", "", head);
  const base = `/api/rigs/${encodeURIComponent(id)}`;
  const holds = buildHolds(head, root, base);
  const own = buildBreaker(() => `${base}/breaker/reset`);
  const hold = make("p", "held", root);
  root.append(own.breaker);
  const beads = make("ul", "plain beads", root);
  return { root, name, facts, holds, own, hold, beads };
}

function renderRig(rig, seen) {
  const ui = row(rig.id, () => buildRig(rig.id), seen);
  say(ui.name, rig.name);
  const works = rig.agents.filter((agent) => agent.status === "working").length;
  const agents = `${works} of ${rig.agents.length} ${rig.agents.length === 1 ? "agent" : "agents"} at work`;
  say(ui.facts, rig.is_configured ? agents : `${agents} · not configured: nothing is dispatched`);
  renderHolds(ui.holds, `rig ${rig.name}`, rig.paused, rig.budget);
  renderBreaker(ui.own, rig.breaker, "");
  say(ui.hold, rig.hold && !rig.paused ? `Held back: ${rig.hold.text}` : "");
  const beads = rig.beads.filter(isShown);
  arrange(ui.beads, beads.map((bead) => renderBead(rig, bead, seen)));
  ui.beads.hidden = beads.length === 0;
  return ui.root;
}

function renderBreaker(ui, breaker, name) {
  const isShut = breaker.state !== "closed";
  ui.breaker.hidden = !isShut;
  if (!isShut) return;
  ui.breaker.className = `breaker ${breaker.state}`;
  const word = `${name}${breaker.state === "open" ? "stopped" : "trying one"}`;
  const { class: kind, text, fix } = breaker.reason ?? {};
  say(ui.reason, `${word.charAt(0).toUpperCase()}${word.slice(1)}: ${text ?? "?"} (${kind ?? "?"}). To mend it: ${fix ?? "?"}.`);
  ui.probe.dataset.at = breaker.next_probe_at ?? "";
  ui.probe.dataset.label = "next try";
}

const isWaiting = (bead) => bead.status === "in_progress" && bead.dispatch_id === null;
const stateOf = (bead) => (isWaiting(bead) ? "waiting" : bead.status);

function isShown(bead) {
  const groups = {
    all: true,
    active: ["open", "in_progress"].includes(bead.status),
    attention: ["failed", "in_review"].includes(bead.status),
    done: bead.status === "closed",
  };
  return groups[state.filter];
}

function buildBead(rig, bead) {
  const root = make("li", "bead");
  const status = make("p", "state", root);
  const middle = make("div", "", root);
  const title = make("h3", "", middle);
  const facts = make("p", "facts", middle);
  const why = make("p", "facts", middle);
  const trouble = make("p", "facts trouble", middle);
  const side = make("div", "side", root);
  const when = make("span", "when", side);
  const retry = make("button", "", side);
  retry.type = "button";
  retry.textContent = "Retry";
  const path = `/api/rigs/${encodeURIComponent(rig.id)}/beads/${encodeURIComponent(bead.id)}/retry`;
  retry.addEventListener("click", () => act(retry, path));
  return { root, status, title, facts, why, trouble, when, retry };
}

function renderBead(rig, bead, seen) {
  const ui = row(`${rig.id}/${bead.id}`, () => buildBead(rig, bead), seen);
  const shown = stateOf(bead);
  ui.status.className = `state ${shown}`;
  say(ui.status, WORDS[shown] ?? shown);
  say(ui.title, bead.title);
  say(ui.facts, factsOf(rig, bead));
  say(ui.why, whyOf(rig, bead));
  say(ui.trouble, troubleOf(bead));
  ui.when.dataset.at = isWaiting(bead) ? bead.next_attempt_at ?? "" : "";
  ui.when.dataset.label = "next attempt";
  ui.retry.hidden = bead.status !== "failed";
  ui.retry.setAttribute("aria-label", `Retry: ${bead.title}`);
  return ui.root;
}

function factsOf(rig, bead) {
  const agent = rig.agents.find((one) => one.id === bead.assignee_agent_id);
  const { cost_usd: usd, estimated } = bead.usage;
  const cost = usd > 0 ? `${estimated ? "at most " : ""}$${usd.toFixed(2)}` : "";
  const parts = [
    agent ? agent.name : "",
    bead.attempts > 0 || bead.dispatches > 0 || bead.status === "in_progress" ? `failures ${bead.attempts} of ${bead.attempts_max}` : "",
    bead.result ? `result: ${bead.result.replaceAll("_", " ")}` : "",
    bead.branch ? `branch ${bead.branch}` : "",
    cost,
  ];
  return parts.filter(Boolean).join(" · ");
}

/** Why it is as it is, and what comes next. What holds the whole rig is said once, at its top. */
function whyOf(rig, bead) {
  if (bead.status === "closed" || bead.status === "failed") return "";
  if (["breaker", "probing", "paused"].includes(bead.waiting_on)) return "waits until the rig is no longer held back";
  return `${bead.explain.cause} → ${bead.explain.next}`;
}

function troubleOf(bead) {
  if (bead.status === "failed") return bead.reason;
  const last = bead.last_failure;
  return last && bead.status !== "closed" ? `last failure (${last.class}): ${last.text}` : "";
}

async function act(button, path) {
  button.disabled = true;
  try {
    await post(path, {});
    news("Done.");
  } catch (error) {
    news(`Refused: ${error.message}`);
    button.title = error.message;
  } finally {
    button.disabled = false;
  }
}

// ── what is told aloud ───────────────────────────────────────────────────────────────────────────

function news(text) {
  $("news").textContent = text;
}

function announce(before, after) {
  if (before === null) return;
  const old = new Map(before.rigs.flatMap((rig) => rig.beads.map((bead) => [bead.id, bead.status])));
  const moved = after.rigs
    .flatMap((rig) => rig.beads)
    .filter((bead) => old.has(bead.id) && old.get(bead.id) !== bead.status)
    .map((bead) => `${bead.title}: ${WORDS[bead.status] ?? bead.status}`);
  if (after.needs_you > before.needs_you) moved.push(`${after.needs_you} need you`);
  if (moved.length > 0) news(moved.slice(0, 3).join(". "));
}

// ── clocks and controls ──────────────────────────────────────────────────────────────────────────

function tick() {
  for (const element of document.querySelectorAll(".when")) {
    const at = Date.parse(element.dataset.at ?? "");
    const left = at - now();
    const label = element.dataset.label;
    say(element, Number.isNaN(at) ? "" : left > 0 ? `${label} in ${span(left)}` : `${label} is due`);
  }
  showLink();
}

for (const button of document.querySelectorAll("[data-filter]")) {
  button.addEventListener("click", () => {
    state.filter = button.dataset.filter;
    for (const other of document.querySelectorAll("[data-filter]")) {
      other.setAttribute("aria-pressed", String(other === button));
    }
    if (state.snapshot) render();
  });
}

setInterval(tick, 1000);
useKey().then(watch);
