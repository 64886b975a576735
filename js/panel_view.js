// The panel as the browser shows it: counts, histogram with the threshold, thumbnails. It knows no node; what a person does is told to `acts`.
import { BIN, STEP, VERDICTS, histogram, range } from "./panel_judging.js";
import { showLarge } from "./panel_large.js";
import { addStyle } from "./panel_style.js";
import { say } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";
const PIN_ICON = '<svg viewBox="0 0 16 16"><path d="M9.5 1 15 6.5l-1.2 1.2-1-.3-2.6 2.6.2 2.8L9.2 14 6 10.8 2 15l-1-1 4.2-4L2 6.8l1.2-1.2 2.8.2 2.6-2.6-.3-1z"/></svg>';
const OPEN_ICON = '<svg viewBox="0 0 16 16"><path d="M9 2h5v5M14 2 9 7M7 14H2V9M2 14l5-5"/></svg>';

export function make(tag, name = "", text = "") {
  const element = document.createElement(tag);
  if (name) element.className = name;
  if (text) element.textContent = text;
  return element;
}

const VERDICT_WORDS = {
  pass: () => say("verdict_pass", "pass"),
  reject: () => say("verdict_reject", "reject"),
  uncertain: () => say("verdict_uncertain", "uncertain"),
  "no face": () => say("verdict_no_face", "no face"),
  "not judged": () => say("verdict_not_judged", "not judged"),
};

/** A verdict in the editor's language. */
export const verdictWord = (verdict) => VERDICT_WORDS[verdict]();

/** Whether a picture is called by more than its number, as in a sweep. */
const isNamed = ({ name }, index) => name !== String(index + 1);

const shown = (score) => (score === null ? say("no_score", "no score") : score.toFixed(2));

export class PanelView {
  /**
   * acts: {threshold(value), pin(index), unpin(index), unpinAll()}, called as a person drags, clicks or presses keys; url(run, index, large): where
   * a picture is to be had, null if nowhere.
   */
  constructor(acts, url) {
    addStyle();
    this.acts = acts;
    this.url = url;
    this.tiles = [];
    this.current = 0;
    this.element = make("div", "likeness-panel");
    this.element.dataset.captureWheel = "true";
    this.element.setAttribute("role", "group");
    this.element.setAttribute("aria-label", say("panel", "Likeness panel"));
    this.head = make("div", "head");
    this.element.append(this.head, this.makePlot(), this.makeGrid(), this.makeFoot());
    // The editor has keys of its own, such as Delete, which removes the node.
    this.element.addEventListener("keydown", (event) => {
      if (!event.ctrlKey && !event.metaKey && !event.altKey && event.key !== "Tab") event.stopPropagation();
    });
  }

  // --- the parts ---

  makePlot() {
    this.plot = make("div", "plot");
    this.bars = document.createElementNS(SVG, "svg");
    this.bars.setAttribute("preserveAspectRatio", "none");
    this.bars.setAttribute("viewBox", "0 0 100 100");
    this.bars.setAttribute("aria-hidden", "true");
    this.marks = make("div");
    this.line = make("div", "threshold");
    this.line.tabIndex = 0;
    this.line.setAttribute("role", "slider");
    this.line.setAttribute("aria-label", say("threshold", "Threshold"));
    this.label = make("span", "value");
    this.line.append(this.label);
    this.plot.append(this.bars, this.marks, this.line);

    let box;
    const move = (event) => {
      this.aim(this.low + ((event.clientX - box.left) / box.width) * (this.high - this.low));
    };
    this.plot.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      this.plot.setPointerCapture(event.pointerId);
      // Once: asking while pictures change sides would lay everything out in between.
      box = this.plot.getBoundingClientRect();
      this.line.focus({ preventScroll: true });
      move(event);
    });
    this.plot.addEventListener("pointermove", (event) => {
      if (this.plot.hasPointerCapture(event.pointerId)) move(event);
    });
    this.line.addEventListener("keydown", (event) => {
      const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10 }[event.key];
      if (steps) this.aim(this.threshold + steps * STEP);
      else if (event.key === "Home") this.aim(this.low);
      else if (event.key === "End") this.aim(this.high);
      else return;
      event.preventDefault();
    });
    return this.plot;
  }

  /** Ask for a threshold, at most once per frame. */
  aim(value) {
    const steps = Math.round(1 / STEP);
    this.aimed = Math.round(Math.min(this.high, Math.max(this.low, value)) * steps) / steps;
    if (this.aimed === this.threshold) return;
    this.frame ??= requestAnimationFrame(() => {
      this.frame = undefined;
      this.acts.threshold(this.aimed);
    });
  }

  makeGrid() {
    this.grid = make("div", "grid");
    this.grid.setAttribute("role", "group");
    this.grid.setAttribute("aria-label", say("pictures", "Pictures. Click or Space pins as pass, then as reject, then not at all. Enter shows the picture large."));
    const index = (event) => this.tiles.indexOf(event.target.closest(".tile"));
    this.grid.addEventListener("click", (event) => {
      const at = index(event);
      if (at < 0) return;
      this.goTo(at);
      // A click without a pointer is the keyboard's.
      if (event.target.closest(".open")) this.enlarge(at);
      else if (event.detail > 0) this.acts.pin(at);
    });
    this.grid.addEventListener("pointerover", (event) => index(event) >= 0 && this.tell(index(event)));
    this.grid.addEventListener("pointerleave", () => this.tell(null));
    this.grid.addEventListener("focusin", (event) => {
      if (index(event) < 0) return;
      this.goTo(index(event));
      this.tell(this.current);
    });
    this.grid.addEventListener("keydown", (event) => {
      const at = index(event);
      if (at < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
      const columns = getComputedStyle(this.grid).gridTemplateColumns.split(" ").length;
      const moves = { ArrowLeft: at - 1, ArrowRight: at + 1, ArrowUp: at - columns, ArrowDown: at + columns, Home: 0, End: this.tiles.length - 1 };
      if (event.key in moves) {
        const to = moves[event.key];
        if (to >= 0 && to < this.tiles.length) this.goTo(to, true);
      } else if (event.key === " ") this.acts.pin(at);
      else if (event.key === "Enter") this.enlarge(at);
      else if (event.key === "Delete" || event.key === "Backspace") this.acts.unpin(at);
      else return;
      event.preventDefault();
    });
    // Firefox presses a button when Space comes up.
    this.grid.addEventListener("keyup", (event) => event.key === " " && event.preventDefault());
    return this.grid;
  }

  makeFoot() {
    const foot = make("div", "foot");
    this.told = make("div", "told");
    this.status = make("span", "unseen");
    this.status.setAttribute("role", "status");
    this.unpinAll = make("button", "unpin-all");
    this.unpinAll.type = "button";
    this.unpinAll.addEventListener("click", () => {
      this.acts.unpinAll();
      this.line.focus({ preventScroll: true });
    });
    foot.append(this.told, this.status, this.unpinAll);
    return foot;
  }

  // --- a run ---

  /** Show another run's pictures. */
  load(run) {
    const sameTiles = this.run?.pictures.length === run.pictures.length && run.pictures.every((one, i) => this.run.pictures[i].file === one.file && this.run.pictures[i].name === one.name);
    this.run = run;
    [this.low, this.high] = range(run);
    this.drawAxis();
    this.grid.classList.toggle("named", run.pictures.some((picture, i) => isNamed(picture, i)));
    this.grid.classList.toggle("cast", run.identities.length > 1);
    if (sameTiles) return;
    this.tiles = run.pictures.map((picture, i) => this.makeTile(picture, i));
    this.current = Math.min(this.current, this.tiles.length - 1);
    this.tiles[this.current].tabIndex = 0;
    this.grid.replaceChildren(...this.tiles);
  }

  makeTile(picture, index) {
    const tile = make("button", "tile");
    tile.type = "button";
    tile.tabIndex = -1;
    const source = this.url(this.run, index, false);
    if (source) {
      const image = make("img");
      image.loading = "lazy";
      image.decoding = "async";
      image.draggable = false;
      image.alt = "";
      image.src = source;
      tile.append(image);
    } else {
      tile.append(make("span", "blank", String(index + 1)));
    }
    const said = make("span", "said"), pin = make("span", "pin"), open = make("span", "open");
    said.dataset.verdict = "";
    pin.innerHTML = PIN_ICON;
    open.innerHTML = OPEN_ICON;
    open.title = say("show_large", "Show large (Enter)");
    tile.score = make("span", "score");
    tile.said = said;
    said.append(make("i", "mark"), tile.score, make("span", "name", picture.name));
    tile.append(said, pin, open);
    return tile;
  }

  drawAxis() {
    const at = (value) => `${((value - this.low) / (this.high - this.low)) * 100}%`;
    const ticks = [];
    for (let tenth = Math.round(this.low * 10); tenth <= Math.round(this.high * 10); tenth += 2) {
      const tick = make("span", "tick", (tenth / 10).toFixed(1));
      tick.style.left = at(tenth / 10);
      ticks.push(tick);
    }
    for (const [name, value] of Object.entries(this.run.thresholds)) {
      const known = make("span", "known");
      known.style.left = at(value);
      known.title = `${name} ${value.toFixed(2)}`;
      ticks.push(known);
    }
    this.marks.replaceChildren(...ticks);
  }

  // --- what is said of it ---

  /**
   * judged: as panel_judging.js gives it; label: the strictness; pins: how many there are in the node; looking: nothing is written, and why;
   * changed: whether the next run would judge differently.
   */
  show(judged, { threshold, label, pins, looking, canPin, changed }) {
    this.judged = judged;
    this.threshold = threshold;
    this.looking = looking;
    this.changed = changed;
    this.canPin = canPin;
    this.plot.classList.toggle("looking", Boolean(looking));
    const share = Math.min(1, Math.max(0, (threshold - this.low) / (this.high - this.low)));
    this.line.style.left = `${share * 100}%`;
    this.label.textContent = `${threshold.toFixed(2)} ${label}`;
    this.label.classList.toggle("left", share > 0.85);
    this.label.classList.toggle("right", share < 0.15);
    this.line.setAttribute("aria-valuemin", this.low);
    this.line.setAttribute("aria-valuemax", this.high);
    this.line.setAttribute("aria-valuenow", threshold);
    const counts = VERDICTS.map((verdict) => [verdict, judged.filter((one) => one.verdict === verdict).length]);
    this.line.setAttribute("aria-valuetext", `${threshold.toFixed(2)} ${label}: ${counts.filter(([, n]) => n).map(([verdict, n]) => `${n} ${verdictWord(verdict)}`).join(", ")}`);
    this.drawHead(counts);
    this.drawBars();
    judged.forEach((one, i) => this.draw(this.tiles[i], one, i));
    this.unpinAll.hidden = !pins || !canPin;
    this.unpinAll.textContent = say("unpin_all", "Unpin all ({count})", { count: pins });
    this.tell(this.telling ?? null);
  }

  draw(tile, { verdict, score, pinned }, index) {
    const state = `${verdict} ${score} ${pinned}`;
    if (tile.state === state) return;
    tile.state = state;
    tile.dataset.verdict = verdict;
    tile.said.dataset.verdict = verdict;
    if (pinned) tile.dataset.pinned = pinned;
    else delete tile.dataset.pinned;
    tile.score.textContent = score === null ? "–" : score.toFixed(2);
    const { name } = this.run.pictures[index];
    const label = say("picture_is", "Picture {name}: {verdict}, {score}", { name, verdict: verdictWord(verdict), score: shown(score) });
    tile.setAttribute("aria-label", label + (pinned ? say("and_pinned_as", ", pinned as {verdict}", { verdict: verdictWord(pinned) }) : ""));
  }

  drawHead(counts) {
    const now = JSON.stringify([counts, this.run.match_rate]);
    if (this.headSays === now) return;
    this.headSays = now;
    const chips = counts
      .filter(([, count]) => count)
      .map(([verdict, count]) => {
        const chip = make("span", "count");
        chip.dataset.verdict = verdict;
        chip.append(make("i", "mark"), `${count} ${verdictWord(verdict)}`);
        return chip;
      });
    const { passed, n } = this.run.match_rate;
    const rate = make("span", "rate", n ? say("match_rate", "match rate {passed}/{n}", { passed, n }) : "");
    rate.title = say("match_rate_is", "Pictures that pass at standard, by the recognizer alone: neither the line nor pins change it.");
    this.head.replaceChildren(...chips, rate);
  }

  drawBars() {
    const bins = histogram(this.judged, this.low);
    const highest = Math.max(1, ...bins.map(({ total }) => total));
    const span = this.high - this.low;
    let used = 0;
    for (const { at, counts } of bins) {
      let top = 100;
      for (const verdict of VERDICTS) {
        if (!counts[verdict]) continue;
        const height = (counts[verdict] / highest) * 100;
        top -= height;
        const bar = this.bars.children[used] ?? this.bars.appendChild(document.createElementNS(SVG, "rect"));
        used += 1;
        if (bar.dataset.verdict !== verdict) bar.dataset.verdict = verdict;
        for (const [name, value] of Object.entries({ x: ((at - this.low) / span) * 100, y: top, width: (BIN / span) * 88, height })) {
          if (bar.getAttribute(name) !== String(value)) bar.setAttribute(name, value);
        }
      }
    }
    while (this.bars.children.length > used) this.bars.lastChild.remove();
  }

  /** What stands below the pictures: the reason of one of them, or what to do. */
  tell(index) {
    this.telling = index;
    if (!this.judged) return;
    this.told.classList.toggle("changed", index === null && this.changed);
    if (index !== null) {
      const { verdict, score, pinned } = this.judged[index];
      const picture = this.run.pictures[index];
      const asRun = (picture.pinned ?? undefined) === pinned && (pinned || this.threshold === this.run.applied);
      const at = { verdict: verdictWord(verdict), threshold: this.threshold.toFixed(2), score: score?.toFixed(2) };
      const now = pinned
        ? say("by_hand_as", "pinned by hand as {verdict}", at)
        : score === null
          ? say("judged_no_face", "{verdict} at {threshold}, no face", at)
          : say("judged", "{verdict} at {threshold}, score {score}", at);
      this.told.textContent = say("picture_reason", "Picture {name}: {reason}", { name: picture.name, reason: asRun ? picture.reason : now });
    } else if (this.looking) this.told.textContent = this.looking;
    else if (this.changed) this.told.textContent = say("changed", "Changed since the run. Run again to use it; no face is searched for again.");
    else {
      const drag = say("drag", "Drag the line to set the threshold.");
      this.told.textContent = this.canPin ? `${drag} ${say("click", "Click a picture to pin it as pass or reject.")}` : drag;
    }
  }

  announce(text) {
    this.status.textContent = text;
  }

  goTo(index, focus = false) {
    this.tiles[this.current].tabIndex = -1;
    this.current = index;
    this.tiles[index].tabIndex = 0;
    if (focus) this.tiles[index].focus();
  }

  enlarge(index) {
    showLarge({
      count: this.tiles.length,
      index,
      url: (at) => this.url(this.run, at, true) ?? this.url(this.run, at, false),
      told: (at) => {
        const { verdict, score, pinned } = this.judged[at];
        const picture = this.run.pictures[at];
        const values = { name: picture.name, count: this.tiles.length, verdict: verdictWord(verdict), score: shown(score) };
        // Behind a name that ends in a seed, "of 14" would count seeds.
        const told = isNamed(picture, at)
          ? `${say("picture_is", "Picture {name}: {verdict}, {score}", values)} (${at + 1}/${values.count})`
          : say("picture_of", "Picture {name} of {count}: {verdict}, {score}", values);
        return [verdict, told + (pinned ? say("and_by_hand", ", pinned by hand") : "")];
      },
      done: (at) => this.goTo(at, true),
    });
  }
}
