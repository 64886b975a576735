// Models that are missing: a banner on the node that wants one, with a download button, and a dialog with all of them. Nothing is asked of the server
// before a Likeness node or the dialog is there, and nothing is downloaded without a click.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { loadWords, say } from "./words.js";

const POLL_MS = 500;
// While a graph is loaded its nodes come one by one.
const SETTLE_MS = 60;
const WIDGET = "likeness_missing_models";
// A setting is told to us before it is told to the server.
const STORED_MS = 800;
const ROW_HEIGHT = 84; // of a row that was not laid out yet, in pixels

let overview = null; // as GET /likeness/models gives it
let asking = null;
let polling = false;
let settling = 0;
const nodes = new Set();
const watched = new WeakSet();
const rows = new Set(); // those that are shown somewhere
const notNow = new Set(); // models that the user can do without, until the page is loaded again

// ---- the server

async function ask(path, body) {
  const options = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const answer = await api.fetchApi(`/likeness/models${path}`, options);
  const told = await answer.json().catch(() => ({ error: say("no_answer", "ComfyUI answered {status}.", { status: answer.status }) }));
  if (!answer.ok) throw new Error(told.error);
  return told;
}

function refresh() {
  asking ??= Promise.all([ask(""), loadWords()])
    .then(([told]) => {
      overview = told;
      if (told.download?.running) poll();
      updateAll();
    })
    .catch((error) => console.warn(`Likeness: the list of models cannot be read (${error.message})`))
    .finally(() => (asking = null));
  return asking;
}

// The files or who may have them have changed; of no interest before somebody has asked.
function changed() {
  // An answer that is under way may be of before the change.
  if (overview) (asking ?? Promise.resolve()).then(refresh);
}

export function settingChanged() {
  setTimeout(changed, STORED_MS);
}

function toast(severity, detail) {
  app.extensionManager.toast.add({ severity, summary: "Likeness", detail, life: severity === "error" ? 12000 : 4000 });
}

const model = (name) => overview.models.find((each) => each.name === name);

async function download(name) {
  if (app.extensionManager.setting.get("Likeness.ConfirmDownload") !== false && !(await confirmed(model(name)))) return;
  try {
    overview.download = (await ask("/download", { name })).download;
    poll();
  } catch (error) {
    toast("error", error.message);
    await refresh();
  }
  updateAll();
}

async function cancel() {
  try {
    overview.download = (await ask("/cancel", {})).download;
  } catch (error) {
    toast("error", error.message);
  }
  updateAll();
}

async function poll() {
  if (polling) return;
  polling = true;
  while (overview.download?.running) {
    await new Promise((resume) => setTimeout(resume, POLL_MS));
    try {
      overview.download = (await ask("/progress")).download;
    } catch {
      // The server is away for a moment, or for good: the bar stands still, and goes on where it is when it comes back.
    }
    updateAll();
  }
  polling = false;
  await ended(overview.download);
}

async function ended(state) {
  if (!state) return;
  const { title, files } = model(state.name);
  if (state.stage === "failed") toast("error", state.sentence);
  if (state.stage !== "done") return refresh();
  // Inputs that stood on "none found" take the file that has come.
  const empty = [...nodes].flatMap((node) => wants(node).filter((want) => want.model === state.name).map((want) => [node, Object.keys(want.when)[0]]));
  await app.extensionManager.command.execute("Comfy.RefreshNodeDefinitions");
  for (const [node, input] of empty) {
    const widget = widgetOf(node, input);
    const values = widget?.options.values ?? [];
    const file = files.find((each) => values.includes(each));
    if (!file || values.includes(widget.value)) continue;
    widget.value = file;
    widget.callback?.(file, app.canvas, node);
  }
  toast("success", say("installed", "{title} is installed.", { title }));
  await refresh();
}

// ---- what a node wants

const widgetOf = (node, name) => node.widgets?.find((widget) => widget.name === name);
const isWired = (node, name) => node.inputs?.some((input) => input.name === name && input.link != null);

function wants(node) {
  const chosen = ([input, values]) => !isWired(node, input) && values.includes(widgetOf(node, input)?.value);
  return overview.wanted.filter(
    (want) => want.node === node.comfyClass && Object.entries(want.when).every(chosen) && !want.unwired.some((name) => isWired(node, name)),
  );
}

// Calls `more` after the callback that a node or widget has.
function after(target, name, more) {
  const before = target[name];
  target[name] = function (...given) {
    const result = before?.apply(this, given);
    more();
    return result;
  };
}

function settle() {
  clearTimeout(settling);
  settling = setTimeout(() => (overview ? updateAll() : refresh()), SETTLE_MS);
}

function updateAll() {
  for (const node of nodes) updateNode(node);
  for (const row of rows) row.update();
}

function updateNode(node) {
  if (!watched.has(node)) {
    watched.add(node);
    const inputs = overview.wanted.filter((want) => want.node === node.comfyClass).flatMap((want) => Object.keys(want.when));
    for (const name of new Set(inputs)) {
      const widget = widgetOf(node, name);
      if (widget) after(widget, "callback", settle);
    }
    after(node, "onConnectionsChange", settle);
  }
  const missing = new Map();
  for (const want of wants(node)) {
    if (!model(want.model).present) missing.set(want.model, want.needed || missing.get(want.model) || false);
  }
  for (const [name, needed] of missing) if (!needed && notNow.has(name)) missing.delete(name);
  const banner = widgetOf(node, WIDGET)?.banner;
  if (missing.size) (banner ?? addBanner(node)).show(missing);
  else banner?.remove();
}

// ---- the banner of a node

function addBanner(node) {
  const inner = element("div", { className: "likeness-rows", role: "group", ariaLabel: say("missing_models", "Missing models") });
  const root = element("div", { className: "likeness-models" }, inner);
  // Enter and Space press the buttons here and mean nothing to the graph.
  root.addEventListener("keydown", (event) => ["Enter", " "].includes(event.key) && event.stopPropagation());
  style();
  const height = () => (inner.offsetHeight || inner.childElementCount * ROW_HEIGHT) + 4;
  const options = { serialize: false, hideOnZoom: false, margin: 6, getMinHeight: () => height() + 12, getMaxHeight: () => height() + 12 };
  const before = node.size[1];
  const widget = node.addDOMWidget(WIDGET, "LIKENESS_MISSING_MODELS", root, options);
  widget.serialize = false; // and last, so that saved values stay in their places
  const resize = (height) => {
    if (height !== node.size[1]) node.setSize([node.size[0], height]);
    node.setDirtyCanvas(true, true);
  };
  const grow = () => resize(Math.max(node.size[1], node.computeSize()[1]));
  // What the banner took it gives back.
  const shrink = () => resize(Math.min(node.size[1], Math.max(before, node.computeSize()[1])));
  const observer = new ResizeObserver(grow);
  observer.observe(inner);
  const shown = new Map();
  const drop = (name) => {
    rows.delete(shown.get(name));
    shown.get(name).element.remove();
    shown.delete(name);
  };
  widget.banner = {
    show(missing) {
      const gone = [...shown.keys()].filter((name) => !missing.has(name));
      gone.forEach(drop);
      for (const [name, needed] of missing) {
        if (!shown.has(name)) {
          const row = modelRow(name, true);
          shown.set(name, row);
          rows.add(row);
          inner.append(row.element);
        }
        shown.get(name).needed = needed;
        shown.get(name).update();
      }
      if (gone.length) shrink();
      grow();
    },
    remove() {
      [...shown.keys()].forEach(drop);
      observer.disconnect();
      node.removeWidget(widget);
      shrink();
    },
  };
  return widget.banner;
}

// ---- one model, in a banner or in the dialog

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function megabytes(bytes) {
  return bytes >= 1e9 ? `${(bytes / 1e9).toFixed(2)} GB` : `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
}

function why(row) {
  if (overview.refused) return say("refused", overview.refused);
  if (overview.commercial_only && !row.commercial) return say("not_cleared", "Not cleared for commercial use, and commercial use only is on.");
  return "";
}

function modelRow(name, inNode) {
  const title = element("span", { className: "likeness-title" });
  const facts = element("div", { className: "likeness-facts" });
  const note = element("div", { className: "likeness-note", role: "status" });
  const bar = element("progress", { max: 1 });
  const amount = element("span", { className: "likeness-amount" });
  const get = element("button", { type: "button", onclick: () => download(name) });
  const stop = element("button", { type: "button", onclick: cancel });
  const page = element("a", { target: "_blank", rel: "noopener noreferrer" });
  const later = element("button", { type: "button", className: "likeness-quiet", textContent: "×", onclick: () => (notNow.add(name), updateAll()) });
  const head = element("div", { className: "likeness-head" }, title, later);
  const buttons = element("div", { className: "likeness-buttons" }, get, bar, amount, stop, page);
  const row = { element: element("div", { className: "likeness-model" }, head, facts, note, buttons), needed: true, update };

  function update() {
    const item = model(name);
    const state = overview.download?.name === name ? overview.download : null;
    const running = Boolean(state?.running);
    const other = overview.download?.running && !running ? model(overview.download.name).title : "";
    const reason = item.present ? "" : why(item);
    const size = item.present ? item.size : item.to_download;
    row.element.classList.toggle("likeness-here", item.present);
    row.element.classList.toggle("likeness-optional", !row.needed);
    title.textContent = item.present
      ? say("here", "{title}: installed", item)
      : row.needed
        ? say("missing", "{title} is missing", item)
        : say("better", "Better with {title}", item);
    title.title = [item.what, item.missing.join(", ")].filter(Boolean).join("\n");
    facts.textContent = [size, item.licence, item.folder].join(" · ");
    if (!inNode) {
      const users = item.nodes.map((type) => LiteGraph.registered_node_types[type]?.title ?? type).join(", ");
      facts.append(element("div", { textContent: item.what }), element("div", { textContent: say("used_by", "Used by: {nodes}", { nodes: users }) }));
    }
    const ended = !item.present && state && !running && state.stage !== "done" ? state.sentence : "";
    note.textContent = [reason, ended, item.present ? "" : item.package].filter(Boolean).join(" ");
    note.classList.toggle("likeness-error", Boolean(reason || state?.stage === "failed"));
    const focused = document.activeElement;
    get.textContent = item.begun ? say("resume", "Resume download") : say("download", "Download {size}", { size });
    get.ariaLabel = `${get.textContent}: ${item.title}`;
    get.disabled = Boolean(reason || other);
    get.title = other ? say("waits", "{title} is being downloaded.", { title: other }) : reason;
    get.hidden = running || item.present;
    bar.hidden = amount.hidden = stop.hidden = !running;
    stop.textContent = say("cancel", "Cancel");
    stop.ariaLabel = `${stop.textContent}: ${item.title}`;
    stop.disabled = state?.stage === "stopping";
    if (running) {
      const share = state.total ? Math.min(state.done / state.total, 1) : 0;
      bar.value = share;
      bar.ariaLabel = item.title;
      amount.textContent =
        state.stage === "stopping"
          ? say("stopping", "stopping")
          : share === 1
            ? say("checking", "checking")
            : `${Math.floor(share * 100)} % · ${megabytes(state.done)} / ${megabytes(state.total)}`;
      if (focused === get) stop.focus();
    } else if (focused === stop && !get.hidden) get.focus();
    page.textContent = say("licence", "Licence");
    page.href = item.page;
    page.ariaLabel = `${page.textContent}: ${item.title}`;
    later.ariaLabel = later.title = say("not_now", "Not now");
    later.hidden = !inNode || row.needed || running;
  }
  return row;
}

// ---- dialogs

function openDialog(label, ...children) {
  style();
  const dialog = element("dialog", { className: "likeness-dialog", ariaLabel: label }, element("h2", { textContent: label }), ...children);
  // Keys here are not the graph's shortcuts.
  dialog.addEventListener("keydown", (event) => event.stopPropagation());
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

function confirmed(item) {
  return new Promise((resolve) => {
    const facts = element("dl");
    const lines = [
      [say("size", "Size"), item.to_download],
      [say("licence", "Licence"), item.licence],
      [say("folder", "Folder"), item.folder],
      [say("files", "Files"), item.missing.join(", ")],
    ];
    for (const [name, value] of lines) facts.append(element("dt", { textContent: name }), element("dd", { textContent: value }));
    const link = element("a", { href: item.page, target: "_blank", rel: "noopener noreferrer", textContent: item.page });
    const agree = say("agree", "Accept licence and download");
    const yes = element("button", { type: "button", className: "likeness-primary", textContent: agree, onclick: () => dialog.close("yes") });
    const no = element("button", { type: "button", textContent: say("cancel", "Cancel"), onclick: () => dialog.close() });
    const dialog = openDialog(say("confirm", "Download {title}?", item), facts, link, element("div", { className: "likeness-buttons" }, yes, no));
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"));
    yes.focus();
  });
}

// The dialog with every model of the catalogue, missing ones first.
export async function showModels() {
  await refresh();
  if (!overview || document.querySelector("dialog.likeness-all")) return;
  const shown = [...overview.models].sort((one, two) => one.present - two.present).map((item) => modelRow(item.name, false));
  const list = element("div", { className: "likeness-rows" }, ...shown.map((row) => row.element));
  const close = element("button", { type: "button", textContent: say("close", "Close"), onclick: () => dialog.close() });
  for (const row of shown) {
    row.update();
    rows.add(row);
  }
  const dialog = openDialog(say("models", "Models of Likeness"), list, element("div", { className: "likeness-buttons" }, close));
  dialog.classList.add("likeness-all");
  dialog.addEventListener("close", () => shown.forEach((row) => rows.delete(row)));
}

// ---- looks: the editor's own colours, so that they fit every palette

let styled = false;

function style() {
  if (styled) return;
  styled = true;
  document.head.append(
    element("style", {
      textContent: `
.likeness-models { overflow: hidden; font: 12px/1.4 system-ui, sans-serif; color: var(--input-text); }
.likeness-rows { display: flex; flex-direction: column; gap: 6px; }
.likeness-model { padding: 6px 8px; border: 1px solid var(--border-color); border-left: 3px solid #d98c00; border-radius: 4px; background: color-mix(in srgb, var(--input-text) 6%, transparent); }
.likeness-model.likeness-here { border-left-color: var(--border-color); }
.likeness-model.likeness-optional { border-left-color: #3b82f6; }
.likeness-head { display: flex; align-items: flex-start; justify-content: space-between; gap: 6px; }
.likeness-title { font-weight: 600; }
.likeness-title::before { content: "\\26A0\\FE0E"; margin-right: 5px; color: #d98c00; }
.likeness-optional .likeness-title::before { content: "+"; color: #3b82f6; }
.likeness-here .likeness-title::before { content: "\\2713"; color: inherit; }
.likeness-facts { color: var(--descrip-text); overflow-wrap: anywhere; }
.likeness-note:empty { display: none; }
.likeness-note.likeness-error { color: var(--error-text); }
.likeness-buttons { display: flex; flex-wrap: wrap; align-items: center; gap: 8px; margin-top: 4px; }
.likeness-model [hidden] { display: none; }
.likeness-buttons progress { flex: 1; min-width: 60px; accent-color: #3b82f6; }
.likeness-amount { font-variant-numeric: tabular-nums; }
.likeness-models button, .likeness-dialog button { padding: 3px 10px; border: 1px solid var(--border-color); border-radius: 4px; background: var(--comfy-menu-bg); color: var(--input-text); font: inherit; cursor: pointer; }
.likeness-models button:hover:enabled, .likeness-dialog button:hover:enabled { border-color: var(--input-text); }
.likeness-models button:disabled, .likeness-dialog button:disabled { opacity: 0.5; cursor: default; }
.likeness-models button.likeness-quiet { padding: 0 5px; border-color: transparent; background: none; }
.likeness-models :focus-visible, .likeness-dialog :focus-visible { outline: 2px solid #3b82f6; outline-offset: 1px; }
.likeness-models a, .likeness-dialog a { color: inherit; text-decoration: underline; }
.likeness-dialog { width: min(560px, 92vw); max-height: 84vh; padding: 16px 20px; border: 1px solid var(--border-color); border-radius: 8px; background: var(--comfy-menu-bg); color: var(--input-text); font: 13px/1.5 system-ui, sans-serif; }
.likeness-dialog.likeness-all { width: min(760px, 92vw); }
.likeness-dialog[open] { display: flex; flex-direction: column; gap: 10px; margin: auto; }
.likeness-dialog::backdrop { background: rgb(0 0 0 / 50%); }
.likeness-dialog h2 { margin: 0; font-size: 16px; }
.likeness-dialog .likeness-rows { overflow-y: auto; }
.likeness-dialog dl { display: grid; grid-template-columns: auto 1fr; gap: 4px 14px; margin: 0; }
.likeness-dialog dt { color: var(--descrip-text); }
.likeness-dialog dd { margin: 0; overflow-wrap: anywhere; }
.likeness-dialog button.likeness-primary { background: #2563eb; border-color: #2563eb; color: #fff; }
`,
    }),
  );
}

// ---- the editor's hooks

app.registerExtension({
  name: "Likeness.Models",
  nodeCreated(node) {
    if (!node.comfyClass?.startsWith("Likeness")) return;
    after(node, "onAdded", () => (nodes.add(node), settle()));
    after(node, "onRemoved", () => {
      widgetOf(node, WIDGET)?.banner.remove();
      nodes.delete(node);
    });
  },
  afterConfigureGraph() {
    if (nodes.size) settle();
  },
  refreshComboInNodes() {
    changed();
  },
});
