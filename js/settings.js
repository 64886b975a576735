// The settings of Likeness in the editor, and the recognizer that a new Load Face Recognizer begins with.
import { app } from "../../scripts/app.js";
import { settingChanged } from "./models.js";

const RECOGNIZER = "Likeness.DefaultRecognizer";

app.registerExtension({
  name: "Likeness.Settings",
  settings: [
    {
      id: "Likeness.CommercialUseOnly",
      category: ["Likeness", "Face recognizers", "Commercial use only"],
      name: "Commercial use only",
      tooltip: "Hide and refuse face recognizers whose licence forbids commercial use (buffalo_l, antelopev2, unknown packs), and refuse to download any such model. Press R after changing it.",
      type: "boolean",
      defaultValue: false,
      onChange: settingChanged,
    },
    {
      id: RECOGNIZER,
      category: ["Likeness", "Face recognizers", "Default recognizer"],
      name: "Default recognizer",
      tooltip: "What a Load Face Recognizer begins with when you add it. Nodes and workflows that are there keep theirs.",
      type: "combo",
      options: ["auto", "auraface", "buffalo_l", "antelopev2", "dlib"],
      defaultValue: "auto",
    },
    {
      id: "Likeness.ConfirmDownload",
      category: ["Likeness", "Models", "Confirm before download"],
      name: "Confirm before download",
      tooltip: "Show licence, size and folder of a model and ask before it is downloaded. Without it the download button begins at once.",
      type: "boolean",
      defaultValue: true,
    },
  ],
  nodeCreated(node) {
    if (node.comfyClass !== "LikenessLoadRecognizer" || app.configuringGraph) return;
    // Whatever brings a node with values of its own (a workflow, a copy) sets them after this.
    const widget = node.widgets?.find((each) => each.name === "recognizer");
    const wanted = app.extensionManager.setting.get(RECOGNIZER);
    if (widget?.options.values?.includes(wanted)) widget.value = wanted;
  },
});
