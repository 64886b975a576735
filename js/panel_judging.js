// What is said of pictures at a threshold, and the text of pins. Neither DOM nor editor: panel_view.js draws it, panel.js wires it to nodes.

export const VERDICTS = ["pass", "reject", "uncertain", "no face", "not judged"];
// The step of the input `threshold`.
export const STEP = 0.01;
export const BIN = 0.02;

const PIN = /^([0-9a-f]{32})\s+(pass|reject)$/;

/** Pins by content key, as nodes/identity/panel.py reads them; what is no pin is left to the host, which says so. */
export function readPins(text) {
  const pins = new Map();
  for (const entry of String(text ?? "").split(/[,\n]/)) {
    const found = PIN.exec(entry.trim());
    if (found) pins.set(found[1], found[2]);
  }
  return pins;
}

export const writePins = (pins) => [...pins].map(([key, verdict]) => `${key} ${verdict}`).join(", ");

/** none, pass, reject, none. */
export const nextPin = (pin) => (pin === "pass" ? "reject" : pin ? undefined : "pass");

/** Per picture {verdict, score, pinned} at a threshold. The host has told what each picture is at any threshold; only `keep_best` compares pictures. */
export function judge(run, threshold, pins) {
  const judged = run.pictures.map(({ key, steps }) => {
    const [, verdict, , score] = steps.find(([upto]) => upto === null || threshold <= upto);
    const pinned = pins.get(key);
    return { verdict: pinned ?? verdict, score, pinned };
  });
  const passed = judged.filter(({ verdict, pinned }) => verdict === "pass" && !pinned);
  if (run.keep_best > 0 && passed.length > run.keep_best) {
    for (const one of passed.sort((a, b) => b.score - a.score).slice(run.keep_best)) one.verdict = "reject";
  }
  return judged;
}

/** The ends of the axis: 0 to 1, and further where scores are. */
export function range(run) {
  const scores = run.pictures.flatMap(({ steps }) => steps.map(([, , , score]) => score)).filter((score) => score !== null);
  return [Math.min(0, ...scores.map((score) => Math.floor(score * 10) / 10)), Math.max(1, ...scores.map((score) => Math.ceil(score * 10) / 10))];
}

/** How many pictures of each verdict have a score in each bin of the axis: [{at, counts: {verdict: n}, total}], empty bins left out. */
export function histogram(judged, low) {
  const bins = new Map();
  for (const { score, verdict } of judged) {
    if (score === null) continue;
    const at = low + Math.floor((score - low) / BIN + 1e-9) * BIN;
    const bin = bins.get(at) ?? bins.set(at, { at, counts: {}, total: 0 }).get(at);
    bin.counts[verdict] = (bin.counts[verdict] ?? 0) + 1;
    bin.total += 1;
  }
  return [...bins.values()];
}
