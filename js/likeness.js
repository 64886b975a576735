// The settings of Likeness in the editor. Nothing else runs here.
import { app } from "../../scripts/app.js";

app.registerExtension({
  name: "Likeness.Settings",
  settings: [
    {
      id: "Likeness.CommercialUseOnly",
      category: ["Likeness", "Face recognizers", "Commercial use only"],
      name: "Commercial use only",
      tooltip: "Hide and refuse face recognizers whose licence forbids commercial use (buffalo_l, antelopev2, unknown packs). Press R after changing it.",
      type: "boolean",
      defaultValue: false,
    },
  ],
});
