"use strict";
// The page of a node. All text goes into the document by textContent; key, openings and conversation are in memory alone.

const at = (id) => document.getElementById(id);
const state = { key: "", models: [], model: null, editor: null, messages: [], busy: false };

/** An element with classes, text and children. */
function make(tag, { text, name, ...rest } = {}, children = []) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (name) element.className = name;
  Object.assign(element, rest);
  element.append(...children);
  return element;
}

function tell(text) { at("status").textContent = text; }

function complain(error) {
  at("problem").textContent = error.message;
  if (error.status === 401) askKey();
}

function askKey() {
  at("key-form").hidden = false;
  at("key").focus();
}

/** A request to the node; a refusal becomes an Error with its words. */
async function ask(path, { headers = {}, ...rest } = {}) {
  const key = state.key ? { authorization: `Bearer ${state.key}` } : {};
  let response;
  try {
    response = await fetch(path, { headers: { ...headers, ...key }, cache: "no-store", credentials: "omit", ...rest });
  } catch {
    throw new Error("the node does not answer; is it still running?");
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  const error = new Error(body.error?.message ?? `the node answered with status ${response.status}`);
  error.status = response.status;
  throw error;
}

const post = (path, body, headers = {}) =>
  ask(path, { method: "POST", body, headers: { "content-type": "application/json", ...headers } });

/** A nonce of one's own, so that the receipt answers this request and no other. */
function newNonce() {
  const bytes = crypto.getRandomValues(new Uint8Array(32));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// Models.

async function loadModels() {
  at("problem").textContent = "";
  const list = await (await ask("/v1/models")).json();
  // Models that embed have nothing to show here.
  state.models = list.data.filter((model) => model.hallmark?.kind !== "embedding");
  const options = state.models.map((model) => make("option", { value: model.id, text: label(model) }));
  at("model").replaceChildren(...options);
  if (state.models.length) await choose(state.models[0].id);
  else tell("This node serves no model.");
}

const label = (model) => (model.hallmark?.title ? `${model.id}: ${model.hallmark.title}` : model.id);

async function choose(name) {
  at("problem").textContent = "";
  const model = await (await ask("/v1/models/" + encodeURIComponent(name))).json();
  if (at("model").value !== name) return; // Another was chosen meanwhile.
  state.model = model;
  state.messages = [];
  const isGraph = model.hallmark?.kind === "graph";
  state.editor = isGraph ? graphEditor(model.hallmark) : chatEditor();
  at("about").textContent = describe(model.hallmark ?? {});
  at("editor").replaceChildren(...state.editor.parts);
  at("go").textContent = isGraph ? "Run" : "Send";
  at("fresh").hidden = isGraph;
  at("ask").hidden = false;
}

function describe(about) {
  const id = about.model?.id;
  const claimed = about.model?.claimed;
  const model = id ? `Model id ${id}.`
    : claimed ? `Answers come from ${claimed.provider}; nobody outside can check which model gives them.` : "";
  return [about.task && `Says ${about.task}.`, about.score && `${about.score}.`, model].filter(Boolean).join(" ");
}

// Editors: `parts` are elements, `read` gives the inputs as JSON text (a chat's gives the message), `label` the known answer.

function chatEditor() {
  const box = make("textarea", { id: "message", rows: 3, required: true });
  box.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      at("ask").requestSubmit();
    }
  });
  return { parts: [make("label", { htmlFor: "message", text: "Message" }), box], box };
}

function graphEditor(about) {
  const examples = about.examples ?? [];
  const [name, tensor] = Object.entries(examples[0]?.inputs ?? {})[0] ?? [];
  const build = { image: pixels, letters, table: cells }[about.view];
  const known = build && tensor && about.inputs.length === 1;
  const inner = known ? build(tensor, about) : jsonBox(about);
  const editor = { ...inner, label: null };
  if (known) editor.read = () => JSON.stringify({ [name]: { ...tensor, data: inner.values() } });
  const fill = (example) => {
    inner.fill(known ? example.inputs[name].data : example.inputs, example);
    editor.label = example.expected ?? null;
  };
  const forget = () => { editor.label = null; };
  inner.parts.forEach((part) => ["input", "pointerdown", "click"].forEach((kind) => part.addEventListener(kind, forget)));
  if (examples.length) {
    fill(examples[0]);
    editor.parts = [examplePicker(examples, fill), ...inner.parts];
  }
  return editor;
}

function examplePicker(examples, fill) {
  const title = (example, index) => `${index + 1}: ${example.text ?? example.expected ?? "example"}`;
  const options = examples.map((example, index) => make("option", { value: String(index), text: title(example, index) }));
  const select = make("select", { id: "example" }, options);
  select.addEventListener("change", () => fill(examples[Number(select.value)]));
  return make("div", { name: "line" }, [make("label", { htmlFor: "example", text: "Held-out example" }), select]);
}

/** A grey picture to click and draw on: values 0 to 16. */
function pixels(tensor) {
  const [height, width] = tensor.shape.slice(-2);
  const values = tensor.data.map(Number);
  const grid = make("div", { name: "pixels" });
  grid.setAttribute("role", "group");
  grid.setAttribute("aria-label", `Picture of ${height} by ${width}: click or draw`);
  grid.style.setProperty("grid-template-columns", `repeat(${width}, 1fr)`);
  const buttons = values.map(() => make("button", { type: "button" }));
  grid.append(...buttons);
  const set = (index, value) => {
    values[index] = value;
    buttons[index].style.setProperty("--ink", String(Math.min(Math.max(value / 16, 0), 1)));
    buttons[index].setAttribute("aria-label", `row ${Math.floor(index / width) + 1}, column ${(index % width) + 1}: ${value}`);
  };
  let ink = null;
  const paint = (event) => {
    const index = buttons.indexOf(document.elementFromPoint(event.clientX, event.clientY));
    if (index < 0) return;
    ink ??= values[index] < 8 ? 16 : 0;
    set(index, ink);
  };
  grid.addEventListener("pointerdown", paint);
  grid.addEventListener("pointermove", (event) => { if (ink !== null && event.buttons) paint(event); });
  window.addEventListener("pointerup", () => { ink = null; });
  // A click that no pointer made comes from the keyboard.
  grid.addEventListener("click", (event) => {
    const index = buttons.indexOf(event.target);
    if (event.detail === 0 && index >= 0) set(index, values[index] < 8 ? 16 : 0);
  });
  const clear = make("button", { type: "button", text: "Clear" });
  clear.addEventListener("click", () => values.forEach((_, index) => set(index, 0)));
  return { parts: [grid, clear], values: () => values, fill: (data) => data.forEach((value, index) => set(index, value)) };
}

/** Text as letters: 1 to 26, all else 0, without accents and capitals. */
function letters(tensor) {
  const size = tensor.data.length;
  const box = make("input", { id: "phrase", autocomplete: "off", maxLength: size });
  const number = (letter) => (/[a-z]/.test(letter) ? letter.charCodeAt(0) - 96 : 0);
  const values = () => {
    const plain = box.value.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase().replaceAll("ß", "ss");
    return Array.from({ length: size }, (_, index) => number(plain[index] ?? ""));
  };
  const spell = (data) => data.map((value) => (value ? String.fromCharCode(96 + value) : " ")).join("").trimEnd();
  const title = make("label", { htmlFor: "phrase", text: `Phrase (${size} letters at most; accents and capitals are dropped)` });
  return { parts: [title, make("div", { name: "line" }, [box])], values, fill: (data, example) => { box.value = example.text ?? spell(data); } };
}

/** A table of named numbers. */
function cells(tensor, about) {
  const boxes = tensor.data.map(() => make("input", { type: "number", step: "any", required: true }));
  const labels = boxes.map((box, index) => make("label", { text: about.columns?.[index] ?? `column ${index + 1}` }, [box]));
  return {
    parts: [make("div", { name: "cells" }, labels)],
    values: () => boxes.map((box) => box.valueAsNumber),
    fill: (data) => data.forEach((value, index) => { boxes[index].value = String(value); }),
  };
}

/** Any inputs, as JSON; numbers go to the node as they are written. */
function jsonBox(about) {
  const box = make("textarea", { id: "inputs", rows: 10, spellcheck: false });
  box.value = JSON.stringify(Object.fromEntries((about.inputs ?? []).map((spec) => [spec.name, blank(spec)])), null, 1);
  const read = () => {
    try { JSON.parse(box.value); } catch (error) { throw new Error(`the inputs are not JSON: ${error.message}`); }
    return box.value;
  };
  const fill = (inputs) => { box.value = JSON.stringify(inputs, null, 1); };
  const wanted = (about.inputs ?? []).map((spec) => `${spec.name}: ${spec.dtype} ${spec.shape}`).join("; ");
  return { parts: [make("label", { htmlFor: "inputs", text: `Inputs (${wanted})` }), box], read, fill };
}

/** A tensor of zeros in a signature's shape; dimensions without a number are 1. */
function blank({ dtype, shape }) {
  const sizes = String(shape).replace(/[[\]]/g, "").split(",").filter((part) => part.trim() !== "");
  const dims = sizes.map((part) => (/^\d+$/.test(part.trim()) ? Number(part) : 1));
  const count = Math.min(dims.reduce((product, size) => product * size, 1), 4096);
  const zero = { string: "", bool: false }[dtype] ?? 0;
  return { dtype, shape: dims, data: Array(count).fill(zero) };
}

// Asking.

/** The place of an answer. */
function place(question) {
  const body = make("div");
  // The answer is read out as it comes; a receipt's twenty rows are not, only the verdict is (in the status line).
  body.setAttribute("aria-live", "polite");
  const receipt = make("div", { name: "receipt", hidden: true });
  at("answers").prepend(make("article", { name: "answer" }, [make("h3", { text: question }), body, receipt]));
  return { body, receipt };
}

async function submit(event) {
  event.preventDefault();
  if (state.busy || !state.model) return;
  busy(true);
  at("problem").textContent = "";
  try {
    const run = state.model.hallmark?.kind === "graph" ? runGraph : runChat;
    tell((await run(state.model, newNonce())) ?? "");
  } catch (error) {
    tell("");
    complain(error);
  } finally {
    busy(false);
  }
}

function busy(now) {
  state.busy = now;
  ["go", "fresh", "model"].forEach((id) => { at(id).disabled = now; });
}

async function runGraph(model, nonce) {
  const { label: known } = state.editor;
  const inputs = state.editor.read();
  tell("Running the model.");
  const response = await post("/v1/infer", `{"model":${JSON.stringify(model.id)},"inputs":${inputs}}`, { "x-hallmark-nonce": nonce });
  const answer = await response.json();
  const { body, receipt } = place(`${model.id}, ${answer.usage.run_microseconds} µs`);
  showOutputs(body, model.hallmark, answer.outputs, known);
  return showReceipt(receipt, answer.hallmark.receipt, response.headers, nonce);
}

function showOutputs(body, about, outputs, known) {
  const chances = outputs[about.answer]?.data;
  if (!about.classes?.length || chances?.length !== about.classes.length) {
    body.append(make("pre", { text: JSON.stringify(outputs, null, 1).slice(0, 20000) }));
    return;
  }
  const best = chances.indexOf(Math.max(...chances));
  const note = known === null ? "" : ` (the example's label: ${known})`;
  body.append(make("p", { name: "verdict", text: about.classes[best] + note }));
  const row = (name, index) => {
    const bar = make("meter", { max: 1, value: chances[index] });
    bar.setAttribute("aria-label", name);
    return make("tr", {}, [make("th", { text: name, scope: "row" }), make("td", {}, [bar]), make("td", { text: `${(100 * chances[index]).toFixed(1)}%` })]);
  };
  body.append(make("table", {}, about.classes.map(row)));
}

async function runChat(model, nonce) {
  const content = state.editor.box.value.trim();
  if (!content) return;
  const messages = [...state.messages, { role: "user", content }];
  tell("The model answers.");
  const request = JSON.stringify({ model: model.id, messages, stream: true });
  const response = await post("/v1/chat/completions", request, { "x-hallmark-nonce": nonce });
  state.editor.box.value = "";
  const { body, receipt } = place(content);
  body.className = "said";
  let id = response.headers.get("x-hallmark-receipt");
  for await (const data of events(response.body)) {
    if (data === "[DONE]") continue;
    const event = JSON.parse(data);
    if (event.error) throw new Error(event.error.message ?? "the answer broke off");
    body.append(event.choices?.[0]?.delta?.content ?? "");
    id = event.hallmark?.receipt ?? id;
  }
  if (!id) throw new Error("the answer was cut: it has no receipt");
  state.messages = [...messages, { role: "assistant", content: body.textContent }];
  return showReceipt(receipt, id, response.headers, nonce);
}

/** The data of server-sent events. The page does not check their signatures: the receipt is what is judged. */
async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    rest += value ?? "";
    const lines = rest.split("\n");
    rest = lines.pop();
    for (const line of lines) if (line.startsWith("data:")) yield line.slice(5).trim();
    if (done) return;
  }
}

// Receipts.

/** Fetches, judges and shows a receipt; gives the verdict's line. */
async function showReceipt(box, id, headers, nonce) {
  box.hidden = false;
  box.append(make("h3", { text: `Receipt ${id}` }));
  tell("The node judges the receipt.");
  // The openings go out once: from here on they are in this page's memory alone.
  const capability = headers.get("x-hallmark-capability") ?? "";
  const fetched = await ask("/v1/receipts/" + id, { headers: { "x-hallmark-capability": capability } });
  const isWhole = fetched.headers.get("x-hallmark-openings") === "included";
  const bundle = await fetched.arrayBuffer();
  let line;
  try {
    const names = { "x-request-id": headers.get("x-request-id") ?? "", "x-hallmark-nonce": nonce };
    const verdict = await (await post("/v1/verdicts", bundle, names)).json();
    showVerdict(box, verdict);
    line = `This server's word: ${verdict.summary[0]}`;
  } catch (error) {
    line = `Not judged: ${error.message}`;
    box.append(make("p", { name: "failed", text: line }));
  }
  box.append(make("p", { text: "Judge it yourself, on a machine that you trust:" }), make("pre", { text: `hallmark verify ${fileName(id)}` }));
  box.append(...saveButton(bundle, id, isWhole));
  return line;
}

const fileName = (id) => `${id.slice(0, 12)}.receipt.json`;

function showVerdict(box, verdict) {
  box.append(make("p", { name: "hint", text: "This server's word:" }));
  const sections = new Map();
  for (const check of verdict.checks) {
    if (!sections.has(check.question)) sections.set(check.question, []);
    sections.get(check.question).push(checkRow(check, verdict.simulated));
    if (check.id === "hardware") {
      for (const row of verdict.hardware?.checks ?? []) sections.get(check.question).push(checkRow(row, verdict.simulated, "· "));
    }
  }
  for (const [question, rows] of sections) box.append(make("h3", { text: question }), make("table", { name: "rows" }, rows));
  verdict.summary.forEach((line, index) => box.append(make("p", { name: index ? "hint" : "verdict", text: line })));
}

// Evidence without hardware behind it says so in every row.
function checkRow(check, isSimulated, depth = "") {
  const [word, name] = { passed: ["ok", "passed"], failed: ["failed", "failed"] }[check.outcome] ?? ["not checked", "not-checked"];
  const more = check.outcome === "failed" && check.expected && check.got && !check.reason.includes(check.got);
  const detail = check.reason ? check.reason + (more ? `: expected ${check.expected}, got ${check.got}` : "") : check.got ?? "";
  return make("tr", {}, [
    make("th", { scope: "row", text: (isSimulated ? "SIMULATED " : "") + depth + check.title }),
    make("td", {}, [make("span", { name, text: word }), (check.outcome === "passed" ? " " : ": ") + detail]),
  ]);
}

function saveButton(bundle, id, isWhole) {
  const button = make("button", { type: "button", text: "Save the private bundle" });
  button.addEventListener("click", () => {
    const url = URL.createObjectURL(new Blob([bundle], { type: "application/json" }));
    make("a", { href: url, download: fileName(id) }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60000);
  });
  const note = isWhole
    ? "It holds your request and the answer in clear. The node gave these openings out once, to this page, which keeps them in memory: save it now or never."
    : "The node withheld the openings: they were given out before. The bundle shows commitments only.";
  return [button, make("p", { name: "hint", text: note })];
}

// The start.

function start() {
  at("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    state.key = at("key").value.trim();
    at("key").value = "";
    at("key-form").hidden = true;
    loadModels().catch(complain);
  });
  at("show-key").addEventListener("click", askKey);
  at("model").addEventListener("change", (event) => { choose(event.target.value).catch(complain); });
  at("fresh").addEventListener("click", () => { state.messages = []; tell("A new conversation."); });
  at("ask").addEventListener("submit", submit);
  loadModels().catch(complain);
}

start();
