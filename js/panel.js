// The panel in the nodes that judge: it appears with a run, and what is set in it is written into the node's own inputs.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { judge, nextPin, readPins, writePins } from "./panel_judging.js";
import { PanelView, verdictWord } from "./panel_view.js";
import { loadWords, say } from "./words.js";

const NODES = new Set(["LikenessIdentityGate", "LikenessCastGate", "LikenessIdentityScore", "LikenessLoraSweep"]);
const WIDGET = "likeness_panel";
const MIN_WIDTH = 360;
const MIN_HEIGHT = 360;

const panels = new WeakMap();
let made = 0;
let words = Promise.resolve();

class Panel {
  constructor(node) {
    this.node = node;
    const acts = {
      threshold: (value) => this.setThreshold(value),
      pin: (index) => this.pin(index, (pin) => nextPin(pin)),
      unpin: (index) => this.pin(index, () => undefined),
      unpinAll: () => this.setPins(new Map()),
    };
    this.view = new PanelView(acts, (run, index, large) => this.url(run, index, large));
    // A type of its own each: Nodes 2.0 keeps the element of a widget of the same name and type, that of the node which undo has taken away.
    const widget = node.addDOMWidget(WIDGET, `LIKENESS_PANEL_${++made}`, this.view.element, {
      serialize: false,
      hideOnZoom: false,
      margin: 8,
      getMinHeight: () => MIN_HEIGHT,
      getValue: () => "",
      setValue: () => {},
    });
    // Two switches: the one above keeps it out of prompts, this one out of saved workflows.
    widget.serialize = false;
    for (const name of ["strictness", "threshold", "pins"]) this.follow(name);
    const [width, height] = node.computeSize();
    node.setSize([Math.max(node.size[0], width, MIN_WIDTH), Math.max(node.size[1], height)]);
  }

  widget(name) {
    return this.node.widgets?.find((widget) => widget.name === name);
  }

  /** An input whose value is the node's own: there, and nothing wired to it. */
  own(name) {
    const wired = this.node.inputs?.some((input) => input.widget?.name === name && input.link != null);
    return wired ? undefined : this.widget(name);
  }

  /** Draw again when somebody sets one of the node's inputs. */
  follow(name) {
    const widget = this.widget(name);
    if (!widget) return;
    const before = widget.callback;
    widget.callback = (...given) => {
      const answer = before?.apply(widget, given);
      if (!this.writing) this.refresh();
      return answer;
    };
  }

  set(name, value) {
    const widget = this.own(name);
    if (!widget || widget.value === value) return;
    this.writing = true;
    try {
      widget.value = value;
      widget.callback?.(value, app.canvas, this.node);
    } finally {
      this.writing = false;
    }
  }

  // --- a run ---

  load(run, images) {
    this.run = run;
    this.images = images;
    this.looked = undefined;
    this.view.load(run);
    this.refresh();
  }

  url(run, index, large) {
    const file = large ? (index < run.large ? this.images?.[index] : null) : run.pictures[index].file && { filename: run.pictures[index].file, subfolder: "", type: "temp" };
    return file ? api.apiURL(`/view?${new URLSearchParams(file)}`) : null;
  }

  // --- what is set ---

  get canSet() {
    return Boolean(this.own("strictness") && this.own("threshold"));
  }

  get pins() {
    return readPins(this.own("pins")?.value);
  }

  /** [threshold, its name] as the node has it now. */
  threshold() {
    if (!this.canSet) return this.looked === undefined ? [this.run.applied, this.run.strictness] : [this.looked, ""];
    const label = this.own("strictness").value;
    return [label === "custom" ? this.own("threshold").value : (this.run.thresholds[label] ?? this.run.applied), label];
  }

  refresh() {
    if (!this.run) return;
    const [threshold, label] = this.threshold();
    const pins = this.pins;
    const canPin = Boolean(this.own("pins"));
    const moved = threshold !== this.run.applied;
    const repinned = canPin && this.run.pictures.some(({ key, pinned }) => (pinned ?? undefined) !== pins.get(key));
    const looking = this.canSet
      ? ""
      : this.widget("threshold")
        ? say("threshold_wired", "The threshold is wired: the line only shows what another would do.")
        : say("sorts_nothing", "This node sorts nothing: the line only shows what a gate would do.");
    this.view.show(judge(this.run, threshold, pins), { threshold, label, pins: pins.size, looking, canPin, changed: repinned || (moved && this.canSet) });
  }

  setThreshold(value) {
    if (this.canSet) {
      this.set("strictness", "custom");
      this.set("threshold", value);
    } else {
      this.looked = value;
    }
    this.changed();
  }

  pin(index, next) {
    if (!this.own("pins")) return;
    const pins = this.pins;
    const { key, name } = this.run.pictures[index];
    const pin = next(pins.get(key));
    if (pin) pins.set(key, pin);
    else pins.delete(key);
    this.view.announce(pin ? say("now_pinned", "Picture {name} pinned as {verdict}", { name, verdict: verdictWord(pin) }) : say("not_pinned", "Picture {name} not pinned", { name }));
    this.setPins(pins);
  }

  setPins(pins) {
    this.set("pins", writePins(pins));
    this.changed();
  }

  changed() {
    this.refresh();
    this.node.graph?.setDirtyCanvas(true, true);
  }
}

/** Show what a node's output tells, where it tells something for the panel. */
function show(node, output) {
  const run = output?.likeness?.[0];
  if (!run?.pictures?.length) return;
  if (run.large) {
    // The panel shows these pictures: the editor's own gallery would show them twice. The second line says of them that they are shown already.
    node.hideOutputImages = true;
    node.images = output.images;
  }
  // One after another, so that the last run stays the last.
  words = words.then(loadWords);
  words.then(() => {
    if (!node.graph) return;
    let panel = panels.get(node);
    if (!panel) panels.set(node, (panel = new Panel(node)));
    if (panel.run !== run) panel.load(run, output.images);
  });
}

/** The panels of outputs that the editor brings back: after undo, after another tab, from the history. Keys: `12`, or `<subgraph>:12`. */
function restore(outputs) {
  for (const [key, output] of Object.entries(outputs ?? {})) {
    if (!output?.likeness) continue;
    const [id, subgraph] = key.split(":").reverse();
    const graph = subgraph ? app.rootGraph.subgraphs.get(subgraph) : app.rootGraph;
    const node = graph?.getNodeById(id) ?? graph?.getNodeById(Number(id));
    if (node && NODES.has(node.comfyClass)) show(node, output);
  }
}

app.registerExtension({
  name: "Likeness.Panel",
  nodeCreated(node) {
    if (!NODES.has(node.comfyClass)) return;
    const before = node.onExecuted;
    node.onExecuted = function (output) {
      before?.apply(this, arguments);
      show(this, output);
    };
  },
  afterConfigureGraph() {
    restore(app.nodeOutputs);
  },
  onNodeOutputsUpdated(outputs) {
    restore(outputs);
  },
});
