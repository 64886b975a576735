// The editor extension of Likeness: its parts, each a file of its own.
import "./commands.js";
import "./models.js";
import "./panel.js";
import "./settings.js";
