// How the panel looks. Colours and marks of the verdicts are those of overlays and plots (nodes/identity/drawing.py); all else is the editor's theme.

export const COLOURS = { pass: "#009E73", reject: "#D55E00", uncertain: "#E69F00", "no face": "#7F7F7F", "not judged": "#56B4E9" };

const ID = "likeness-panel-style";

const shades = Object.entries(COLOURS)
  .map(([verdict, colour]) => `.likeness-panel [data-verdict="${verdict}"], .likeness-large [data-verdict="${verdict}"] { --verdict: ${colour}; }`)
  .join("\n");

const STYLE = `
${shades}
.likeness-panel, .likeness-large {
  color: var(--input-text, #ddd); font: 12px/1.35 Inter, "Segoe UI", system-ui, sans-serif;
}
.likeness-panel {
  --ground: var(--component-node-widget-background, var(--comfy-input-bg, #222)); --line: var(--border-color, #4e4e4e); --faint: var(--descrip-text, #999);
  --focus: var(--p-primary-color, #0b8ce9);
  box-sizing: border-box; display: flex; flex-direction: column; gap: 6px; min-height: 340px; height: 100%; padding: 8px;
  background: var(--ground); border: 1px solid var(--line); border-radius: 8px; overflow: hidden; user-select: none;
}
.likeness-panel *, .likeness-large * { box-sizing: border-box; }
.likeness-panel :focus-visible, .likeness-large :focus-visible { outline: 2px solid var(--focus, #0b8ce9); outline-offset: 1px; }
.likeness-panel button, .likeness-large button { font: inherit; color: inherit; cursor: pointer; }

.likeness-panel .head { display: flex; flex-wrap: wrap; gap: 2px 12px; align-items: center; }
.likeness-panel .count { display: inline-flex; align-items: center; gap: 5px; font-weight: 600; font-variant-numeric: tabular-nums; }
.likeness-panel .rate { margin-left: auto; color: var(--faint); }

.likeness-panel .mark { flex: none; display: inline-block; width: 10px; height: 10px; background: var(--verdict); }
.likeness-panel [data-verdict="pass"] > .mark { border-radius: 50%; }
.likeness-panel [data-verdict="reject"] > .mark {
  clip-path: polygon(20% 0, 50% 30%, 80% 0, 100% 20%, 70% 50%, 100% 80%, 80% 100%, 50% 70%, 20% 100%, 0 80%, 30% 50%, 0 20%);
}
.likeness-panel [data-verdict="uncertain"] > .mark { clip-path: polygon(50% 0, 100% 100%, 0 100%); }
.likeness-panel [data-verdict="no face"] > .mark { background: none; border: 2px solid var(--verdict); }
.likeness-panel [data-verdict="not judged"] > .mark { clip-path: polygon(50% 0, 100% 50%, 50% 100%, 0 50%); }

.likeness-panel .plot { position: relative; flex: none; height: 92px; margin: 0 8px; touch-action: none; cursor: ew-resize; }
.likeness-panel .plot.looking { cursor: crosshair; }
.likeness-panel .plot svg { position: absolute; left: 0; top: 20px; width: 100%; height: 56px; overflow: visible; border-bottom: 1px solid var(--line); }
.likeness-panel .plot rect { fill: var(--verdict); }
.likeness-panel .tick { position: absolute; bottom: 0; transform: translateX(-50%); color: var(--faint); font-size: 10px; font-variant-numeric: tabular-nums; }
.likeness-panel .known { position: absolute; top: 20px; height: 56px; border-left: 1px dotted var(--faint); }
.likeness-panel .threshold { position: absolute; top: 0; height: 80px; width: 20px; margin-left: -10px; border-radius: 4px; }
.likeness-panel .threshold::before { content: ""; position: absolute; left: 9px; top: 17px; bottom: 4px; width: 2px; background: var(--input-text, #ddd); }
.likeness-panel .threshold::after {
  content: ""; position: absolute; left: 5px; bottom: -3px; border: 5px solid transparent; border-top: 0; border-bottom: 8px solid var(--input-text, #ddd);
}
.likeness-panel .value {
  position: absolute; left: 50%; top: 0; transform: translateX(-50%); padding: 0 6px; border-radius: 8px; white-space: nowrap;
  background: var(--input-text, #ddd); color: var(--ground); font-weight: 600; font-variant-numeric: tabular-nums; pointer-events: none;
}
.likeness-panel .value.left { left: 100%; transform: translateX(-100%); }
.likeness-panel .value.right { left: 0; transform: none; }

.likeness-panel .grid {
  flex: 1 1 0; min-height: 104px; contain: strict; overflow: auto; overscroll-behavior: contain; padding: 3px; scrollbar-width: thin;
  display: grid; grid-template-columns: repeat(auto-fill, minmax(92px, 1fr)); gap: 6px; align-content: start;
}
.likeness-panel .tile {
  position: relative; display: flex; flex-direction: column; padding: 0; overflow: hidden; text-align: left;
  background: transparent; border: 2px solid var(--verdict); border-radius: 6px;
  height: 132px; content-visibility: auto;
}
.likeness-panel .tile img, .likeness-panel .tile .blank {
  display: block; flex: 1 1 0; min-height: 0; width: 100%; object-fit: cover; object-position: 50% 30%;
}
.likeness-panel .cast .tile img { object-fit: contain; object-position: 50% 50%; }
.likeness-panel .tile .blank { display: grid; place-items: center; color: var(--faint); font-size: 16px; }
.likeness-panel .tile[data-verdict="reject"] img, .likeness-panel .tile[data-verdict="no face"] img { opacity: 0.6; filter: grayscale(0.7); }
.likeness-panel .said { display: flex; align-items: center; gap: 5px; padding: 2px 5px; font-variant-numeric: tabular-nums; }
.likeness-panel .said .mark { background: var(--verdict); }
.likeness-panel .score { font-weight: 600; }
.likeness-panel .name { margin-left: auto; color: var(--faint); overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.likeness-panel .named .tile { height: 150px; }
.likeness-panel .named .said { flex-wrap: wrap; gap: 0 5px; }
.likeness-panel .named .name {
  flex: 0 0 100%; height: 39px; font-size: 10px; line-height: 13px; white-space: normal; overflow-wrap: anywhere;
  display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 3;
}
.likeness-panel .pin { position: absolute; left: 3px; top: 3px; display: none; width: 20px; height: 20px; padding: 3px; border-radius: 50%; background: #000c; }
.likeness-panel .pin svg { display: block; fill: #fff; }
.likeness-panel .tile[data-pinned] .pin { display: block; }
.likeness-panel .tile[data-pinned] { border-style: dashed; }
.likeness-panel .open {
  position: absolute; right: 3px; top: 3px; width: 20px; height: 20px; padding: 4px; border-radius: 4px; background: #000c; opacity: 0; cursor: zoom-in;
}
.likeness-panel .open svg { display: block; stroke: #fff; fill: none; stroke-width: 2; }
.likeness-panel .tile:hover .open, .likeness-panel .tile:focus-visible .open { opacity: 1; }

.likeness-panel .foot { flex: none; display: flex; align-items: flex-start; gap: 8px; min-height: 34px; color: var(--faint); }
.likeness-panel .told { flex: 1; display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 2; overflow: hidden; }
.likeness-panel .changed { color: var(--input-text, #ddd); font-weight: 600; }
.likeness-panel .foot button { flex: none; padding: 3px 8px; background: transparent; border: 1px solid var(--line); border-radius: 6px; color: var(--input-text, #ddd); }
.likeness-panel .foot button:hover { border-color: var(--input-text, #ddd); }
.likeness-panel .foot button[hidden] { display: none; }
.likeness-panel .unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }

.likeness-large {
  max-width: 94vw; max-height: 94vh; margin: auto; padding: 12px; background: var(--comfy-menu-bg, #353535);
  border: 1px solid var(--border-color, #4e4e4e); border-radius: 10px;
}
.likeness-large::backdrop { background: #000a; }
.likeness-large img { display: block; min-width: 40vmin; min-height: 40vmin; max-width: calc(94vw - 24px); max-height: calc(94vh - 84px); object-fit: contain; margin: 0 auto; }
.likeness-large .bar { display: flex; align-items: center; gap: 8px; margin-top: 10px; }
.likeness-large .bar p { flex: 1; margin: 0; }
.likeness-large button { padding: 4px 12px; background: transparent; border: 1px solid var(--border-color, #4e4e4e); border-radius: 6px; }
@media (forced-colors: active) {
  .likeness-panel .mark, .likeness-panel rect { forced-color-adjust: none; }
}
`;

/** Put the style into the document, once. */
export function addStyle() {
  if (document.getElementById(ID)) return;
  const style = document.createElement("style");
  style.id = ID;
  style.textContent = STYLE;
  document.head.append(style);
}
