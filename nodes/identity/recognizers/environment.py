"""Known clashes between installed packages, each as one sentence with the command that mends it. Nothing is repaired here."""

from importlib import metadata

OPENCV = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")


def clashes(cuda_torch: bool, onnx: bool) -> list[str]:
    """What will trip a user of this installation. cuda_torch: torch has CUDA here; onnx: an ONNX recognizer is in use."""
    told = []
    if onnx and cuda_torch and not _onnx_has_cuda():
        if _versions("onnxruntime") and _versions("onnxruntime-gpu"):
            told.append(
                "ONNX Runtime has lost CUDA because onnxruntime was installed over onnxruntime-gpu: run "
                "`python -m pip uninstall -y onnxruntime onnxruntime-gpu`, then `python -m pip install onnxruntime-gpu`."
            )
        elif _versions("onnxruntime"):
            told.append(
                "torch has CUDA but ONNX Runtime has not, so face recognition stays on the CPU: run `python -m pip uninstall -y onnxruntime`, "
                "then `python -m pip install onnxruntime-gpu`."
            )
    # Several OpenCV distributions share one folder: harmless while they are the same version, broken when they are not.
    installed = {name: version for name in OPENCV for version in _versions(name)}
    if len(set(installed.values())) > 1:
        names = ", ".join(f"{name} {version}" for name, version in installed.items())
        told.append(
            f"Different versions of OpenCV are installed over each other ({names}): run `python -m pip uninstall -y {' '.join(installed)}`, "
            f"then `python -m pip install {' '.join(installed)}`."
        )
    return told


def _onnx_has_cuda() -> bool:
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def _versions(name: str) -> list[str]:
    try:
        return [metadata.version(name)]
    except metadata.PackageNotFoundError:
        return []
