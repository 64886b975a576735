// One picture of the panel in large, over everything, with the way to the next: a dialog of the browser's own.
import { addStyle } from "./panel_style.js";
import { say } from "./words.js";

/** count, index: how many pictures there are and which is shown first; url(i), told(i): its address and [verdict, sentence]; done(i): called at the end. */
export function showLarge({ count, index, url, told, done }) {
  addStyle();
  const dialog = document.createElement("dialog");
  dialog.className = "likeness-large";
  dialog.setAttribute("aria-label", say("picture", "Picture"));
  const image = document.createElement("img");
  const bar = document.createElement("div");
  bar.className = "bar";
  const text = document.createElement("p");
  text.setAttribute("aria-live", "polite");
  const button = (label, act) => {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = label;
    made.addEventListener("click", act);
    return made;
  };
  const go = (to) => {
    index = (to + count) % count;
    const [verdict, sentence] = told(index);
    image.src = url(index) ?? "";
    image.alt = sentence;
    text.textContent = sentence;
    bar.dataset.verdict = verdict;
  };
  const previous = button(say("previous", "Previous"), () => go(index - 1)), next = button(say("next", "Next"), () => go(index + 1));
  bar.append(text, previous, next, button(say("close", "Close"), () => dialog.close()));
  dialog.append(image, bar);
  dialog.addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (event.key === "ArrowLeft") go(index - 1);
    else if (event.key === "ArrowRight") go(index + 1);
  });
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => {
    dialog.remove();
    done(index);
  });
  document.body.append(dialog);
  go(index);
  dialog.showModal();
}
