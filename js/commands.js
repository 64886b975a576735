// The commands of Likeness, in the editor's menu under Extensions and in its list of commands.
import { app } from "../../scripts/app.js";
import { showModels } from "./models.js";

const GUIDE = "https://github.com/comfyui-likeness/ComfyUI-Likeness#readme";

app.registerExtension({
  name: "Likeness.Commands",
  commands: [
    { id: "Likeness.OpenGuide", label: "Open Likeness guide", icon: "pi pi-book", function: () => void window.open(GUIDE, "_blank", "noopener") },
    { id: "Likeness.ShowMissingModels", label: "Show missing models", icon: "pi pi-download", function: showModels },
  ],
  menuCommands: [{ path: ["Extensions", "Likeness"], commands: ["Likeness.OpenGuide", "Likeness.ShowMissingModels"] }],
});
