// What the scripts of Likeness say, in the editor's language. English stands where it is said; other languages stand in locales/<language>/main.json,
// under "likeness".
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";

const tables = {};
let said = {};

// Fetches the words of the editor's language, once; without them English is said.
export async function loadWords() {
  const language = app.extensionManager.setting.get("Comfy.Locale") ?? "en";
  if (language !== "en" && !(language in tables)) {
    try {
      tables[language] = (await (await api.fetchApi("/i18n")).json())[language]?.likeness ?? {};
    } catch {
      return; // asked again the next time
    }
  }
  said = tables[language] ?? {};
}

// `english` or its translation under `key`, with {name} replaced by values.name.
export function say(key, english, values = {}) {
  return (said[key] ?? english).replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}
