#!/usr/bin/env node
// A stand-in for `kilo serve` with the same HTTP and event surface, so that tests need no gateway
// and no model. Event orders follow the recorded traces in ../fixtures/kilo-7.7.7.
//
// How a server behaves is read from $XDG_CONFIG_HOME/fake-kilo.json:
//   version          what health and --version say (default 7.7.7)
//   start            "ok" | "never" (no ready line) | "exit1" (with a line on stderr)
//   readyDelayMs     wait before the ready line
//   floodMiB         bytes on stdout without a newline before the ready line
//   badOutput        bytes that are no UTF-8 on both streams before the ready line
//   stderrAtStart    a line on stderr before the ready line
//   ignoreSigterm    SIGTERM changes nothing
//   ignoreParent     does not watch KILO_PARENT_PID
//   grandchild       true: a process in a session of its own from the start on
//   configWarning    a text that GET /config/warnings reports
//   models           model ids that the gateway lists, besides the configured ones
//   unlisted         model ids that it does not list
//   validToken       any other token gives 401 in each turn
//   heartbeatMs      between heartbeats (default 10000)
//   closeEvents      true: every event stream is closed right after it was opened
//   prompt           directives for prompts that have none
//
// What a prompt does is read from directives in its text, done in order, then a text answers:
//   [[fake: ok]]                 text only (the default)
//   [[fake: say TEXT]]           the text of the answer
//   [[fake: sh COMMAND]]         a bash tool call that really runs, in the session's directory
//   [[fake: mcp TOOL {json}]]    a call of a tool of the directory's registered MCP server
//   [[fake: grandchild]]         a tool that leaves a process in a session of its own behind
//   [[fake: sleep MS]]           busy for a while
//   [[fake: hang]]               busy until aborted; hang-mid: after some text
//   [[fake: retry N]]            N retry states, then on
//   [[fake: question]]           waits for an answer; permission, offline likewise
//   [[fake: child]]              a child session with a turn of its own
//   [[fake: drop]]               the event streams break; refused for 300 ms
//   [[fake: dispose]]            the directory's instance goes: the stream sees no close
//   [[fake: ignore-sigterm]]     from now on
//   [[fake: flood MIB]]          on stdout, without a newline
//   [[fake: dup]]                from now on each frame is sent twice, closes also late
// These end the turn:
//   [[fake: empty]] [[fake: zero]] [[fake: length]] [[fake: tools-only]] [[fake: malformed]] [[fake: cut]]
//   [[fake: e400]] [[fake: e401]] [[fake: e402]] [[fake: e403]] [[fake: e429]] [[fake: e500]]
//   [[fake: no-model]] [[fake: no-agent]] [[fake: no-turn]] [[fake: lie]] [[fake: lost]]
//   [[fake: crash]] (SIGKILL) [[fake: exit0]]
import { spawn } from "node:child_process";
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";

const env = process.env;
const readJson = (file) => { try { return JSON.parse(readFileSync(file, "utf8")); } catch { return undefined; } };
const setup = (env.XDG_CONFIG_HOME && readJson(join(env.XDG_CONFIG_HOME, "fake-kilo.json"))) || {};
const version = setup.version ?? "7.7.7";
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

if (process.argv.includes("--version")) { console.log(version); process.exit(0); }
if (process.argv[2] !== "serve") { console.error("fake-kilo: only serve and --version"); process.exit(2); }

let config = {};
const warnings = [];
try { config = JSON.parse(env.KILO_CONFIG_CONTENT ?? "{}"); } catch (error) {
  warnings.push({ path: "KILO_CONFIG_CONTENT", message: `is not valid JSON(C): ${error.message}` });
}
if (setup.configWarning) warnings.push({ path: "KILO_CONFIG_CONTENT", message: setup.configWarning });
const token = config.provider?.kilo?.options?.kilocodeToken;

// ---- ids, sessions, storage -------------------------------------------------------------------
let counter = 0;
const id = (kind) => `${kind}_${Date.now().toString(16)}${(counter++).toString(16).padStart(6, "0")}${Math.random().toString(36).slice(2, 8)}`;
const storeDir = join(env.XDG_DATA_HOME ?? "/nonexistent", "kilo");
const storeFile = join(storeDir, "fake-sessions.json");
const sessions = new Map((readJson(storeFile) ?? []).map((session) => [session.info.id, { ...session, status: null, turn: null }]));
function save() {
  const all = [...sessions.values()].map(({ info, messages }) => ({ info, messages }));
  mkdirSync(storeDir, { recursive: true });
  writeFileSync(`${storeFile}.tmp`, JSON.stringify(all));
  renameSync(`${storeFile}.tmp`, storeFile);
}

// ---- events -----------------------------------------------------------------------------------
const streams = new Set();
let doubling = false;
let refuseStreamsUntil = 0;
const STORED = /^(session\.(created|updated)|message\.(updated|part\.updated))$/;
function frame(stream, directory, payload) {
  if (stream.directory && stream.directory !== directory) return;
  const body = stream.global ? { ...(directory && { directory, project: "fake" }), payload } : payload;
  stream.response.write(`data: ${JSON.stringify(body)}\n\n`);
}
function send(directory, payload) {
  for (const stream of streams) {
    frame(stream, directory, payload);
    if (doubling) frame(stream, directory, payload);
  }
}
function emit(session, type, properties) {
  const payload = { id: id("evt"), type, properties: { sessionID: session.info.id, ...properties } };
  send(session.info.directory, payload);
  if (STORED.test(type)) {
    send(session.info.directory, { type: "sync", syncEvent: { id: payload.id, type: `${type}.1`, seq: counter, data: payload.properties }, id: payload.id });
  }
}
function status(session, value) {
  session.status = value.type === "idle" ? null : value;
  emit(session, "session.status", { status: value });
}
function idle(session) { status(session, { type: "idle" }); emit(session, "session.idle", {}); }
function close(session, reason) {
  emit(session, "session.turn.close", { reason });
  // A late double is a frame of its own id: only its content tells.
  if (doubling) setTimeout(() => emit(session, "session.turn.close", { reason }), 50);
}
function dropStreams(ms) {
  refuseStreamsUntil = Date.now() + ms;
  for (const stream of streams) stream.response.destroy();
  streams.clear();
}

// ---- messages ---------------------------------------------------------------------------------
const NO_TOKENS = { input: 0, output: 0, reasoning: 0, cache: { read: 0, write: 0 } };
const TOKENS = { total: 107, input: 100, output: 7, reasoning: 0, cache: { read: 0, write: 0 } };
function addMessage(session, role, more) {
  const info = { id: id("msg"), sessionID: session.info.id, role, time: { created: Date.now() }, agent: "code", ...more };
  const message = { info, parts: [] };
  session.messages.push(message);
  return message;
}
const update = (session, message) => emit(session, "message.updated", { info: structuredClone(message.info) });
function part(session, message, value) {
  const known = message.parts.find((one) => one.id === value.id);
  const full = known ?? { id: id("prt"), sessionID: session.info.id, messageID: message.info.id };
  Object.assign(full, value);
  if (!known) message.parts.push(full);
  emit(session, "message.part.updated", { part: structuredClone(full), time: Date.now() });
  return full;
}
function beginStep(session, turn) {
  const parentID = turn.user.info.id;
  turn.last = addMessage(session, "assistant", { parentID, modelID: turn.model, providerID: "kilo", mode: "code", path: { cwd: session.info.directory, root: session.info.directory }, cost: 0, tokens: structuredClone(NO_TOKENS) });
  update(session, turn.last);
  emit(session, "session.updated", { info: session.info });
  emit(session, "session.diff", { diff: [] });
  update(session, turn.user);
  status(session, { type: "busy" });
  turn.stepStarted = false;
}
function startPart(session, turn) {
  if (!turn.stepStarted) part(session, turn.last, { type: "step-start" });
  turn.stepStarted = true;
}
function writeText(session, turn, text) {
  startPart(session, turn);
  const value = part(session, turn.last, { type: "text", text: "", time: { start: Date.now() } });
  for (const delta of text.split(/(?<= )/)) {
    value.text += delta;
    emit(session, "message.part.delta", { messageID: turn.last.info.id, partID: value.id, field: "text", delta });
  }
  return (tail = text) => part(session, turn.last, { id: value.id, text: tail, time: { start: value.time.start, end: Date.now() } });
}
function endStep(session, turn, reason, tokens = TOKENS) {
  startPart(session, turn);
  part(session, turn.last, { type: "step-finish", reason, cost: 0.0001, tokens });
  Object.assign(turn.last.info, { cost: 0.0001, tokens: structuredClone(tokens), finish: reason });
  update(session, turn.last);
  turn.last.info.time.completed = Date.now();
  update(session, turn.last);
}
function complete(session, turn, reason = "stop", tokens = TOKENS) {
  endStep(session, turn, reason, tokens);
  if (reason === "stop") status(session, { type: "busy" });
  finished(session);
  idle(session);
  close(session, "completed");
  emit(session, "session.updated", { info: session.info });
  emit(session, "session.diff", { diff: [] });
  update(session, turn.user);
}
function finished(session) { session.turn = null; save(); }
function fail(session, turn, error) {
  emit(session, "session.error", { error });
  idle(session);
  turn.endText?.();
  if (turn.last) {
    Object.assign(turn.last.info, { error });
    turn.last.info.time.completed = Date.now();
    update(session, turn.last);
  }
  finished(session);
  idle(session);
  close(session, "error");
}
function interrupt(session) {
  const turn = session.turn;
  if (!turn || turn.over) return;
  turn.over = true;
  for (const child of turn.tools) { try { process.kill(-child.pid, "SIGKILL"); } catch { /* gone */ } }
  const error = { name: "MessageAbortedError", data: { message: "Aborted" } };
  emit(session, "session.error", { error });
  idle(session);
  turn.endText?.();
  if (turn.last) {
    for (const open of turn.last.parts.filter((one) => one.type === "tool" && one.state.status === "running")) {
      part(session, turn.last, { id: open.id, state: { ...open.state, status: "error", error: "Tool execution aborted" } });
    }
    Object.assign(turn.last.info, { error });
    turn.last.info.time.completed = Date.now();
    update(session, turn.last);
  }
  finished(session);
  close(session, "interrupted");
  idle(session);
  emit(session, "session.drain.interrupted", {});
  turn.wake?.();
}

// ---- tools ------------------------------------------------------------------------------------
const mcpServers = new Map();
async function rpc(server, method, params) {
  const headers = { "content-type": "application/json", accept: "application/json, text/event-stream", ...server.headers };
  const response = await fetch(server.url, { method: "POST", headers, body: JSON.stringify({ jsonrpc: "2.0", id: counter++, method, params }), signal: AbortSignal.timeout(20000) });
  const text = await response.text();
  if (!response.ok) throw new Error(`${response.status} ${text.slice(0, 200)}`);
  const data = /^data: (.*)$/m.exec(text);
  return text ? JSON.parse(data ? data[1] : text) : {};
}
async function tool(session, turn, name, input, run) {
  startPart(session, turn);
  const start = Date.now();
  const call = { type: "tool", callID: id("call"), tool: name, state: { status: "pending", input: {} } };
  const { id: partId } = part(session, turn.last, call);
  part(session, turn.last, { id: partId, state: { status: "running", input, time: { start } } });
  let state;
  try {
    state = { status: "completed", input, output: await run(), title: name, time: { start, end: Date.now() } };
  } catch (error) {
    state = { status: "error", input, error: String(error.message ?? error), time: { start, end: Date.now() } };
  }
  if (turn.over) return;
  part(session, turn.last, { id: partId, state });
  nextStep(session, turn);
}
function nextStep(session, turn) {
  endStep(session, turn, "tool-calls");
  status(session, { type: "busy" });
  beginStep(session, turn);
}
// A tool call whose states are told one by one.
function pendingCall(session, turn, name) {
  startPart(session, turn);
  const { id: partId } = part(session, turn.last, { type: "tool", callID: id("call"), tool: name, state: { status: "pending", input: {} } });
  return (state) => part(session, turn.last, { id: partId, state: { status: state, input: {} } });
}
// As the real bash tool: a session of its own, in the directory, without kilo's own variables.
function shell(session, turn, command) {
  const clean = Object.fromEntries(Object.entries(env).filter(([name]) => !/^KILO_(CONFIG|SERVER)/.test(name)));
  const child = spawn("sh", ["-c", command], { cwd: session.info.directory, detached: true, env: clean, stdio: ["ignore", "pipe", "pipe"] });
  turn.tools.add(child);
  return new Promise((done, failed) => {
    let output = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => { output = (output + data).slice(-30000); });
    child.on("error", failed);
    child.on("close", (code) => { turn.tools.delete(child); done(`${output}\nexit code ${code}`); });
  });
}
function leaveBehind(directory) {
  const child = spawn("sleep", ["600"], { cwd: directory, detached: true, stdio: "ignore" });
  child.unref();
  return `pid ${child.pid}`;
}

// ---- waiting for a person or the network --------------------------------------------------------
const asks = { permission: new Map(), question: new Map(), network: new Map() };
async function ask(session, turn, kind, asked, more) {
  const request = { id: id(kind === "permission" ? "per" : "que"), sessionID: session.info.id, ...more };
  let answer;
  const answered = new Promise((done) => { answer = done; });
  turn.wake = () => answer("aborted");
  asks[kind].set(request.id, { request, answer, directory: session.info.directory });
  emit(session, asked, request);
  if (kind === "network") status(session, { type: "offline", requestID: request.id, message: request.message });
  const reply = await answered;
  // An abort leaves the entry behind, as kilo does.
  if (reply !== "aborted") asks[kind].delete(request.id);
  return { reply, requestID: request.id };
}

// ---- what a turn does ---------------------------------------------------------------------------
const api = (statusCode, message, retry) => ({ name: "APIError", data: { message, statusCode, isRetryable: statusCode >= 429, responseHeaders: { "content-type": "application/json", ...(retry && { "retry-after": retry }) }, responseBody: JSON.stringify({ error: { message, code: statusCode } }), metadata: { url: `${env.KILO_API_URL}/api/openrouter/chat/completions` } } });
const unknown = (message) => ({ name: "UnknownError", data: { message } });
const ENDS = {
  ok: (s, t) => { t.endText = writeText(s, t, t.answer ?? "Hello from fake"); t.endText(); complete(s, t); },
  empty: (s, t) => complete(s, t),
  zero: (s, t) => { writeText(s, t, "Hello")(); complete(s, t, "stop", NO_TOKENS); },
  length: (s, t) => { writeText(s, t, "Hello")(); complete(s, t, "length"); },
  "tools-only": (s, t) => complete(s, t),
  malformed: (s, t) => { t.endText = writeText(s, t, "Part"); fail(s, t, unknown("JSON parsing failed: Text: {not json at all.\nError message: JSON Parse error: Expected '}'")); },
  cut: (s, t) => { t.endText = writeText(s, t, "Part"); fail(s, t, { name: "APIError", data: { message: "Connection reset by server", isRetryable: true, metadata: { code: "ECONNRESET", syscall: "", message: "reset" } } }); },
  e400: (s, t) => fail(s, t, api(400, "Bad request")),
  e401: (s, t) => fail(s, t, api(401, "Invalid API key")),
  e402: (s, t) => fail(s, t, api(402, "Credits required: please top up")),
  e403: (s, t) => fail(s, t, api(403, "Forbidden model")),
  e429: (s, t) => fail(s, t, api(429, "Rate limit exceeded", "1")),
  e500: (s, t) => fail(s, t, api(500, "Internal error")),
  lie: (s, t) => {
    emit(s, "session.error", { error: api(401, "Invalid API key") });
    t.last.info.time.completed = Date.now();
    finished(s);
    idle(s);
    close(s, "completed");
  },
  lost: (s, t) => { writeText(s, t, "Part"); dropStreams(300); finished(s); s.status = null; },
  crash: (s, t) => { writeText(s, t, "Part"); save(); process.kill(process.pid, "SIGKILL"); },
  exit0: (s, t) => { writeText(s, t, "Part"); save(); process.exit(0); },
};
const STEPS = {
  say: (s, t, text) => { t.answer = text; },
  sh: (s, t, command) => tool(s, t, "bash", { command }, () => shell(s, t, command)),
  mcp: (s, t, text) => {
    const [, name, json] = /^(\S+)\s*(.*)$/s.exec(text) ?? [];
    const args = json ? JSON.parse(json) : {};
    return tool(s, t, `wellhead_${name}`, args, async () => {
      const [server] = [...(mcpServers.get(s.info.directory)?.values() ?? [])];
      if (!server) throw new Error("no MCP server is registered for this directory");
      const answer = await rpc(server, "tools/call", { name, arguments: args });
      if (answer.error) throw new Error(JSON.stringify(answer.error));
      return JSON.stringify(answer.result);
    });
  },
  grandchild: (s, t) => tool(s, t, "bash", { command: "sleep 600 &" }, async () => leaveBehind(s.info.directory)),
  sleep: (s, t, ms) => sleep(Number(ms)),
  hang: (s, t) => new Promise((done) => { t.wake = done; }),
  "hang-mid": (s, t) => { t.endText = writeText(s, t, "I start to "); return new Promise((done) => { t.wake = done; }); },
  retry: async (s, t, times) => {
    for (let attempt = 1; attempt <= Number(times || 1); attempt++) {
      status(s, { type: "retry", attempt, message: "Rate limit exceeded", next: Date.now() + 20 });
      await sleep(20);
      status(s, { type: "busy" });
    }
  },
  question: async (s, t) => {
    const call = pendingCall(s, t, "question");
    const questions = [{ question: "Which colour?", header: "Colour", options: [{ label: "Red", description: "red" }] }];
    const asked = ask(s, t, "question", "question.asked", { questions });
    call("running");
    const { reply, requestID } = await asked;
    if (reply === "aborted") return undefined;
    emit(s, reply === "reject" ? "question.rejected" : "question.replied", { requestID });
    call("running");
    call("completed");
    return reply === "reject" ? "tool-calls" : nextStep(s, t);
  },
  permission: async (s, t) => {
    const call = pendingCall(s, t, "bash");
    call("running");
    const { reply, requestID } = await ask(s, t, "permission", "permission.asked", { permission: "bash", patterns: ["sleep 300"] });
    if (reply === "aborted") return undefined;
    emit(s, "permission.replied", { requestID, reply });
    if (reply !== "reject") call("running");
    call(reply === "reject" ? "error" : "completed");
    return reply === "reject" ? "tool-calls" : nextStep(s, t);
  },
  offline: async (s, t) => {
    const message = "Cannot connect to API: Unable to connect. Is the computer able to access the url?";
    const { reply, requestID } = await ask(s, t, "network", "session.network.asked", { message, restored: false });
    if (reply === "aborted") return undefined;
    emit(s, `session.network.${reply === "reject" ? "rejected" : "replied"}`, { requestID });
    if (reply === "reject") return { error: { name: "APIError", data: { message, isRetryable: true, metadata: { code: "", syscall: "", message } } } };
    status(s, { type: "busy" });
    return undefined;
  },
  child: async (s) => {
    const child = newSession(s.info.directory, "child", s.info.id);
    emit(child, "session.turn.open", {});
    status(child, { type: "busy" });
    emit(child, "message.part.delta", { messageID: "msg_child", partID: "prt_child", field: "text", delta: "from a child" });
    idle(child);
    close(child, "completed");
  },
  drop: () => { dropStreams(300); return sleep(20); },
  dispose: (s) => {
    const turn = s.turn;
    turn.over = true;
    Object.assign(turn.last.info, { error: { name: "MessageAbortedError", data: { message: "Aborted" } } });
    turn.last.info.time.completed = Date.now();
    finished(s);
    s.status = null;
    send(s.info.directory, { id: id("evt"), type: "server.instance.disposed", properties: { directory: s.info.directory } });
  },
  "ignore-sigterm": () => { setup.ignoreSigterm = true; },
  flood: (s, t, mib) => flood(Number(mib || 64)),
  dup: () => { doubling = true; },
};
function directives(text) {
  const all = [...text.matchAll(/\[\[fake: *([a-z0-9-]+) *(.*?)\]\]/gs)].map(([, name, rest]) => ({ name, rest: rest.trim() }));
  return all.length > 0 || !setup.prompt ? all : directives(setup.prompt);
}
async function runTurn(session, text, model, agent) {
  const turn = { model, tools: new Set(), over: false };
  session.turn = turn;
  const todo = directives(text);
  turn.user = addMessage(session, "user", { model: { providerID: "kilo", modelID: model } });
  emit(session, "session.updated", { info: session.info });
  update(session, turn.user);
  part(session, turn.user, { type: "text", text });
  emit(session, "session.updated", { info: session.info });
  if (todo.some(({ name }) => name === "no-turn")) return finished(session);
  if (agent === "nosuchagent" || todo.some(({ name }) => name === "no-agent")) {
    emit(session, "session.error", { error: unknown("Agent not found: \"nosuchagent\". Available agents: code, ask") });
    emit(session, "session.error", { error: unknown("UnknownError: UnknownError\n    at <anonymous>") });
    return finished(session);
  }
  emit(session, "session.turn.open", {});
  if ((setup.unlisted ?? []).includes(model) || todo.some(({ name }) => name === "no-model")) {
    const message = `Model not found: kilo/${model}.`;
    emit(session, "session.error", { error: unknown(message) });
    emit(session, "session.error", { error: unknown(`ProviderModelNotFoundError: ${message}\n    at <anonymous>`) });
    finished(session);
    status(session, { type: "idle" });
    return close(session, "error");
  }
  status(session, { type: "busy" });
  beginStep(session, turn);
  save();
  if (!token || (setup.validToken && setup.validToken !== token)) return fail(session, turn, api(401, "Invalid token"));
  for (const { name, rest } of todo) {
    if (ENDS[name]) return ENDS[name](session, turn);
    const result = await STEPS[name]?.(session, turn, rest);
    if (turn.over) return undefined;
    if (result === "tool-calls") return complete(session, turn, "tool-calls");
    if (result?.error) return fail(session, turn, result.error);
  }
  return ENDS.ok(session, turn);
}

// ---- HTTP ---------------------------------------------------------------------------------------
function newSession(directory, title, parentID) {
  const info = { id: id("ses"), slug: "fake-session", projectID: "fake", directory, title, version, ...(parentID && { parentID }), time: { created: Date.now(), updated: Date.now() } };
  const session = { info, messages: [], status: null, turn: null };
  sessions.set(info.id, session);
  save();
  emit(session, "session.created", { info });
  return session;
}
function openStream(request, response, query, global) {
  if (Date.now() < refuseStreamsUntil) return response.destroy();
  response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-cache" });
  const stream = { response, global, directory: global ? null : query.get("directory") };
  streams.add(stream);
  frame(stream, undefined, { id: id("evt"), type: "server.connected", properties: {} });
  const beat = setInterval(() => frame(stream, undefined, { id: id("evt"), type: "server.heartbeat", properties: {} }), setup.heartbeatMs ?? 10000);
  response.on("close", () => { clearInterval(beat); streams.delete(stream); });
  if (setup.closeEvents) response.end();
  return undefined;
}
async function registerMcp(directory, { name, config: server }) {
  try {
    await rpc(server, "initialize", { protocolVersion: "2025-03-26", capabilities: {}, clientInfo: { name: "fake-kilo", version } });
  } catch (error) {
    return { [name]: { status: "failed", error: String(error.message) } };
  }
  if (!mcpServers.has(directory)) mcpServers.set(directory, new Map());
  mcpServers.get(directory).set(name, server);
  return { [name]: { status: "connected" } };
}
function providers() {
  const models = [config.model, config.small_model].filter(Boolean).map((name) => name.replace(/^kilo\//, ""));
  const listed = [...models, ...(setup.models ?? [])].filter((name) => !(setup.unlisted ?? []).includes(name));
  return { providers: [{ id: "kilo", source: token ? "config" : "custom", models: Object.fromEntries(listed.map((name) => [name, { id: name }])) }], default: {} };
}
const missing = [404, { name: "NotFoundError", data: { message: "not found" } }];
function forSession(method, action, session, query, body) {
  if (method === "GET" && !action) return [200, session.info];
  if (method === "GET" && action === "message") return [200, session.messages.slice(-(Number(query.get("limit")) || 1000))];
  if (action === "prompt_async") {
    const text = (body.parts ?? []).map((one) => one.text ?? "").join("\n");
    setImmediate(() => runTurn(session, text, body.model?.modelID ?? "default", body.agent).catch((error) => console.error("fake-kilo:", error)));
    return [204];
  }
  if (action === "abort") { interrupt(session); return [200, true]; }
  return missing;
}
function forAsk(kind, requestId, action, body) {
  const found = asks[kind].get(requestId);
  if (!found) return missing;
  found.answer(action === "reject" ? "reject" : body.reply ?? "reply");
  return [200, true];
}
async function route(method, path, query, body) {
  const [first, second, third] = path;
  const directory = query.get("directory") ?? process.cwd();
  const here = (one) => one.info.directory === directory;
  if (first === "global" && second === "health") return [200, { healthy: true, version }];
  if (first === "config" && second === "warnings") return [200, warnings];
  if (first === "config" && second === "providers") return [200, providers()];
  if (first === "mcp" && method === "POST") return [200, await registerMcp(directory, body)];
  if (first in asks && method === "GET") return [200, [...asks[first].values()].filter((one) => one.directory === directory).map((one) => one.request)];
  if (first in asks) return forAsk(first, second, third, body);
  if (first !== "session") return [404, { error: "Not Found" }];
  if (!second && method === "POST") return [200, newSession(directory, body.title ?? "New session", body.parentID).info];
  if (!second) return [200, [...sessions.values()].filter(here).map((one) => one.info)];
  if (second === "status") return [200, Object.fromEntries([...sessions.values()].filter((one) => here(one) && one.status).map((one) => [one.info.id, one.status]))];
  if (third === "abort" && !sessions.has(second)) return [200, true];
  return sessions.has(second) ? forSession(method, third, sessions.get(second), query, body) : missing;
}
const expected = env.KILO_SERVER_PASSWORD && `Basic ${Buffer.from(`kilo:${env.KILO_SERVER_PASSWORD}`).toString("base64")}`;
const server = createServer(async (request, response) => {
  const url = new URL(request.url, "http://fake");
  if (expected && request.headers.authorization !== expected) return response.writeHead(401).end();
  const path = url.pathname.split("/").filter(Boolean).map(decodeURIComponent);
  if (url.pathname === "/global/event") return openStream(request, response, url.searchParams, true);
  if (url.pathname === "/event") return openStream(request, response, url.searchParams, false);
  let text = "";
  for await (const chunk of request) text += chunk;
  let answer;
  try { answer = await route(request.method, path, url.searchParams, text ? JSON.parse(text) : {}); } catch (error) { answer = [400, { error: String(error) }]; }
  const [code, value] = answer;
  if (value === undefined) return response.writeHead(code).end();
  return response.writeHead(code, { "content-type": "application/json" }).end(JSON.stringify(value));
});

// ---- life ---------------------------------------------------------------------------------------
function flood(mib) {
  const block = Buffer.alloc(1 << 20, "x");
  for (let n = 0; n < mib; n++) process.stdout.write(block);
}
async function shutdown() {
  if (setup.ignoreSigterm) return;
  for (const session of sessions.values()) interrupt(session);
  send(undefined, { id: id("evt"), type: "server.instance.disposed", properties: { directory: process.cwd() } });
  for (const stream of streams) stream.response.end();
  setTimeout(() => process.exit(0), 30);
}
for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"]) process.on(signal, shutdown);
if (env.KILO_PARENT_PID && !setup.ignoreParent) {
  setInterval(() => { try { process.kill(Number(env.KILO_PARENT_PID), 0); } catch { process.exit(0); } }, 1000).unref();
}
if (setup.start === "exit1") {
  process.stderr.write(`Error: Unexpected error\nServeError ${setup.leak ? env.KILO_SERVER_PASSWORD : ""} ${token ?? ""}\n`);
  process.exit(1);
}
if (setup.grandchild) leaveBehind(process.cwd());
if (setup.badOutput) for (const out of [process.stdout, process.stderr]) out.write(Buffer.from([0xff, 0xfe, 0x80, 0x0a]));
if (setup.stderrAtStart) process.stderr.write(`${setup.stderrAtStart}\n`);
if (setup.floodMiB) { flood(setup.floodMiB); process.stdout.write("\n"); }
await sleep(setup.readyDelayMs ?? 0);
server.listen(0, "127.0.0.1", () => {
  if (setup.start !== "never") console.log(`kilo server listening on http://127.0.0.1:${server.address().port}`);
});
