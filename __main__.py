"""`python custom_nodes/ComfyUI-Likeness ...` is the command `likeness` where the pack was not installed with pip."""

import sys

if __name__ == "__main__":
    # Python put this folder on the path: the engine is found as the package `nodes`, and no ComfyUI runs in this process.
    from nodes.terminal import main

    sys.exit(main())
