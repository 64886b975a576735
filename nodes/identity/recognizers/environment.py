"""Known clashes between installed packages, each as one sentence with the command that mends it. Nothing is repaired here."""

from importlib import metadata

from ...installation import pip_command

# Both write one folder: only without the other does onnxruntime-gpu keep its CUDA provider.
ONNX_CUDA_MEND = f"run `{pip_command('uninstall -y onnxruntime onnxruntime-gpu')}`, then `{pip_command('install onnxruntime-gpu')}`"
OPENCV = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")


def clashes(cuda_torch: bool, onnx: bool) -> list[str]:
    """What will trip a user of this installation. cuda_torch: torch has CUDA here; onnx: an ONNX recognizer is in use."""
    told = []
    if onnx and cuda_torch and not _onnx_has_cuda():
        if _versions("onnxruntime") and _versions("onnxruntime-gpu"):
            told.append(f"ONNX Runtime has lost CUDA because onnxruntime was installed over onnxruntime-gpu: {ONNX_CUDA_MEND}.")
        elif _versions("onnxruntime"):
            told.append(f"torch has CUDA but ONNX Runtime has not, so face recognition stays on the CPU: {ONNX_CUDA_MEND}.")
    # Several OpenCV distributions share one folder. insightface brings opencv-python and mediapipe opencv-contrib-python, which holds all of it.
    installed = {name: version for name in OPENCV for version in _versions(name)}
    if len(installed) > 1 and len(set(installed.values())) == 1:
        packages = " ".join(installed)
        told.append(
            f"{len(installed)} OpenCV distributions share one folder ({', '.join(installed)}, all {next(iter(installed.values()))}): harmless until one is "
            f"updated alone; to keep one, run `{pip_command(f'uninstall -y {packages}')}`, then `{pip_command('install opencv-contrib-python')}`."
        )
    elif len(installed) > 1:
        names = ", ".join(f"{name} {version}" for name, version in installed.items())
        packages = " ".join(installed)
        told.append(
            f"Different versions of OpenCV are installed over each other ({names}): run `{pip_command(f'uninstall -y {packages}')}`, "
            f"then `{pip_command(f'install {packages}')}`."
        )
    return told


def _onnx_has_cuda() -> bool:
    try:
        import onnxruntime
    except ImportError:
        # Opening the recognizer says so.
        return False
    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def _versions(name: str) -> list[str]:
    try:
        return [metadata.version(name)]
    except metadata.PackageNotFoundError:
        return []
