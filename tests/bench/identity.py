"""Speed and memory of the identity room, as ratios of one run: `python -m tests.bench.identity [NAME...]`.

Run it with the host's Python (CONTRIBUTING.md). Names: dlib, arcface, rejudge, memory, import; default all. Nothing is asserted: the ratios
are printed for whoever reads them. A part that needs something that is not there says so.
"""

import asyncio
import contextlib
import importlib
import importlib.util
import io
import os
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tests.conftest import PACKAGE, ROOT, comfyui_root, make_package_importable

PICTURES = 24
SIDE = 1024
REPEATS = 3


def interleaved(*works) -> list[float]:
    """The median time of each piece of work, run in turns so that a slow moment hits all alike."""
    times = [[] for _ in works]
    for _ in range(REPEATS):
        for work, own in zip(works, times):
            start = time.perf_counter()
            with contextlib.redirect_stdout(io.StringIO()):
                work()
            own.append(time.perf_counter() - start)
    return [statistics.median(own) for own in times]


def say(name: str, ratio: float, wanted: str, detail: str) -> None:
    print(f"{name}: {ratio:.2f} (wanted {wanted}); {detail}")


def portraits() -> list[np.ndarray]:
    """24 photographs of 1024x1024: six people of one group photograph, each in four variants, enlarged."""
    from PIL import Image

    from character_likeness.nodes import demo
    from character_likeness.nodes.identity.recognizers import open_recognizer

    group = demo.photograph("insightface", "data", "images", "t1.jpg")
    pictures = []
    for person in demo.people(group, open_recognizer("dlib")):
        variants = demo.altered(person)
        for variant in (person, variants["mirrored"], variants["darkened"], variants["JPEG quality 40"]):
            pictures.append(np.asarray(Image.fromarray(variant.pixels).resize((SIDE, SIDE), Image.Resampling.LANCZOS)))
    return pictures


def enter_host():
    """Make this process a ComfyUI without its server; gives the module `nodes` of the host with our pack loaded."""
    sys.path.insert(0, str(comfyui_root()))
    sys.modules.pop("nodes", None)
    import comfy.options

    comfy.options.enable_args_parsing(False)
    from comfy.cli_args import args

    args.cpu = True
    import nodes

    asyncio.run(nodes.init_builtin_extra_nodes())
    return nodes


def our_node(host, node: str, **inputs):
    with contextlib.redirect_stdout(io.StringIO()):
        return host.NODE_CLASS_MAPPINGS[node].EXECUTE_NORMALIZED(**inputs).result


def bench_dlib(host) -> None:
    import dlib
    import torch

    from character_likeness.nodes.identity.recognizers.catalogue import dlib_files

    pictures = portraits()
    batch = torch.from_numpy(np.stack(pictures)).float() / 255
    identity, *_ = our_node(host, "LikenessBuildIdentity", images=[batch[:1]], name=["she"], combine=["mean"])
    gate = {
        "strictness": ["standard"],
        "threshold": [0.5],
        "face": ["best match"],
        "no_face": ["reject"],
        "uncertain": ["own output"],
        "keep_best": [0],
        "max_score": [1.0],
    }

    def ours():
        identity.recognizer._memory.clear()
        our_node(host, "LikenessIdentityGate", image=[batch], identity=[identity], **gate)

    predictor_file, network_file = dlib_files()
    detector, predictor, network = (
        dlib.get_frontal_face_detector(),
        dlib.shape_predictor(str(predictor_file)),
        dlib.face_recognition_model_v1(str(network_file)),
    )

    def bare():
        import cv2

        chips = []
        for picture in pictures:
            small = cv2.resize(picture, (SIDE // 2, SIDE // 2), interpolation=cv2.INTER_AREA)
            for box in detector(small, 0):
                box = dlib.rectangle(box.left() * 2, box.top() * 2, box.right() * 2 + 1, box.bottom() * 2 + 1)
                chips.append(dlib.get_face_chip(picture, predictor(picture, box), 150, 0.25))
        network.compute_face_descriptor(chips)

    peer = Path(os.environ.get("FACE_ANALYSIS_ROOT") or Path.home() / "comfy" / "peers" / "ComfyUI_FaceAnalysis")
    if not (peer / "faceanalysis.py").is_file():
        print(f"dlib: the pack ComfyUI_FaceAnalysis is not at {peer} or FACE_ANALYSIS_ROOT: not compared with it")
        ours_time, bare_time = interleaved(ours, bare)
    else:
        spec = importlib.util.spec_from_file_location("faceanalysis", peer / "faceanalysis.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        with tempfile.TemporaryDirectory() as folder:
            # The same model files as ours, under the names it looks for.
            for file in (predictor_file, network_file):
                (Path(folder) / file.name).symlink_to(file)
            module.DLIB_DIR = folder
            models = module.DLib()
            node = module.FaceEmbedDistance()

            def theirs():
                node.analize(models, batch[:1], batch, "euclidean", 100.0, 0)

            ours_time, bare_time, their_time = interleaved(ours, bare, theirs)
        say(
            "dlib, times as many pictures per second as FaceEmbedDistance",
            their_time / ours_time,
            "3.5 or more",
            f"{PICTURES} pictures of {SIDE}x{SIDE}, Identity Gate with overlays, plot and report",
        )
    say(
        "dlib, time of the gate over the bare detect and embed calls",
        ours_time / bare_time,
        "1.15 or less",
        "the same pictures, detection at 512, one batched embed",
    )


def bench_arcface(host) -> None:
    import onnxruntime
    import torch

    from character_likeness.nodes.identity.recognizers import open_recognizer
    from character_likeness.nodes.pictures import Picture
    from tests.tiny.face_packs import background, paint, write_pack

    opened = []
    create = onnxruntime.InferenceSession.__init__

    def counting(self, *args, **kwargs):
        opened.append(args)
        create(self, *args, **kwargs)

    arrays = []
    for i in range(PICTURES):
        picture = background(SIDE, SIDE, "photo", seed=i)
        paint(picture, i % 8, 300, 260, 420)
        arrays.append(picture)
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder)
        pack = write_pack(models / "insightface" / "models" / "buffalo_l", "buffalo_l")
        onnxruntime.InferenceSession.__init__ = counting
        try:
            recognizer = open_recognizer("buffalo_l", models)
            recognizer.faces([Picture(arrays[0])])
        finally:
            onnxruntime.InferenceSession.__init__ = create
        detector, embedder = (part._model for part in recognizer.models())

        from insightface.utils import face_align

        def bare():
            crops = []
            for picture in arrays:
                bgr = picture[..., ::-1]
                _, keypoints = detector.detect(bgr)
                crops += [face_align.norm_crop(bgr, points, 112) for points in keypoints]
            embedder.get_feat(crops)

        def ours():
            recognizer._memory.clear()
            recognizer.faces([Picture(picture) for picture in arrays])

        ours_time, bare_time = interleaved(ours, bare)
        del pack, torch
    say(
        "ArcFace, time over the bare detector and one batched embed",
        ours_time / bare_time,
        "1.10 or less",
        f"synthetic pack, {PICTURES} pictures of {SIDE}x{SIDE}",
    )
    print(f"ArcFace, ONNX sessions opened for a pack of five models: {len(opened)} (wanted 2)")


def bench_rejudge(host) -> None:
    from character_likeness.nodes.identity import scoring
    from character_likeness.nodes.identity.identity import build_identity
    from character_likeness.nodes.identity.recognizers import open_recognizer
    from character_likeness.nodes.pictures import Picture

    recognizer = open_recognizer("dlib")
    pictures = [Picture(np.ascontiguousarray(np.roll(p, shift, axis=1))) for p in portraits() for shift in (0, 3, 6)][:64]
    identity = build_identity(pictures[:1], recognizer)
    detector, embedder = recognizer.models()
    calls = []
    for part, names in ((detector, ("find", "overview")), (embedder, ("crop", "embed"))):
        for name in names:
            real = getattr(part, name)
            setattr(part, name, lambda *args, real=real, name=name: (calls.append(name), real(*args))[1])

    def judge(strictness):
        threshold = scoring.threshold_of(identity, strictness, 0.0)
        return scoring.judge(scoring.measure(pictures, [identity]), [identity], scoring.Rules(threshold, strictness))

    start = time.perf_counter()
    judge("standard")
    first, before = time.perf_counter() - start, len(calls)
    start = time.perf_counter()
    judge("strict")
    again = time.perf_counter() - start
    print(
        f"rejudging {len(pictures)} pictures with another strictness: {len(calls) - before} detector or recognizer calls (wanted 0; {before} the first time), {first / again:.0f} times as fast"
    )


def bench_memory(host) -> None:
    """Runs `likeness score` in this process on 2,000 pictures and reads its resident memory after each hundred."""
    from PIL import Image

    from character_likeness.nodes import terminal
    from tests.tiny.face_packs import background, paint, write_pack

    count = 2000
    with tempfile.TemporaryDirectory() as folder:
        album = Path(folder) / "album"
        album.mkdir()
        write_pack(Path(folder) / "models" / "insightface" / "models" / "buffalo_l", "buffalo_l")
        for i in range(count):
            picture = background(384, 384, "photo", seed=i)
            paint(picture, i % 8, 100, 100, 160)
            Image.fromarray(picture).save(album / f"{i:04}.png", compress_level=1)
        sizes = []

        class Watching(io.StringIO):
            def write(self, text):
                sizes.append(resident())
                return len(text)

        arguments = [
            "score",
            str(album),
            "--reference",
            str(album / "0000.png"),
            "--recognizer",
            "buffalo_l",
            "--models-dir",
            str(Path(folder) / "models"),
            "--json",
            str(Path(folder) / "r.json"),
        ]
        with contextlib.redirect_stdout(Watching()), contextlib.redirect_stderr(io.StringIO()):
            terminal.main(arguments)
    marks = [sizes[int(len(sizes) * share) - 1] for share in (0.05, 0.25, 0.5, 0.75, 1)]
    say(
        f"memory of `likeness score` after {count} pictures over after 100",
        marks[-1] / marks[0],
        "flat",
        "resident at 100, 500, 1000, 1500, 2000 pictures: " + ", ".join(f"{m / 2**20:.0f} MiB" for m in marks),
    )


def resident() -> int:
    """Bytes of this process in memory; on systems without /proc the highest so far."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def bench_import(host) -> None:
    """Loads the pack in fresh processes that have imported the host and its own nodes already."""
    import subprocess

    code = (
        "import sys, time, asyncio; sys.path.insert(0, sys.argv[1])\n"
        "import comfy.options; comfy.options.enable_args_parsing(False)\n"
        "from comfy.cli_args import args; args.cpu = True\n"
        "import nodes; asyncio.run(nodes.init_builtin_extra_nodes())\n"
        "start = time.perf_counter(); assert asyncio.run(nodes.load_custom_node(sys.argv[2])); print('took', time.perf_counter() - start)\n"
    )
    # As a user's second start: the compiled files are there.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    times = []
    for _ in range(REPEATS + 1):
        done = subprocess.run(
            [sys.executable, "-c", code, str(comfyui_root()), str(ROOT)], capture_output=True, text=True, env=environment, cwd=tempfile.gettempdir()
        )
        times += [float(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("took")]
    print(f"import of the pack after the host's imports: {statistics.median(times[1:]) * 1000:.0f} ms (wanted under 50 ms)")


BENCHES = {"dlib": bench_dlib, "arcface": bench_arcface, "rejudge": bench_rejudge, "memory": bench_memory, "import": bench_import}


def main(names: list[str]) -> None:
    names = names or list(BENCHES)
    if len(names) > 1:
        # Each in a process of its own: what one leaves in memory must not hide what the next one takes.
        import subprocess

        for name in names:
            subprocess.run([sys.executable, "-m", "tests.bench.identity", name], cwd=ROOT, check=True)
        return
    if comfyui_root() is None or importlib.util.find_spec("torch") is None:
        sys.exit("The benches run in a ComfyUI's Python: see CONTRIBUTING.md.")
    with contextlib.redirect_stdout(io.StringIO()):
        host = enter_host()
        asyncio.run(host.load_custom_node(str(ROOT)))
    make_package_importable()
    # The engine that the host's nodes call and the one imported here by name must be the same modules; the nodes load it when they first run.
    prefix = next(name for name in sys.modules if name.endswith(".nodes.extension") and not name.startswith(PACKAGE)).removesuffix(".nodes.extension")
    for path in [*ROOT.glob("nodes/*.py"), *ROOT.glob("nodes/identity/**/*.py")]:
        importlib.import_module(".".join((prefix, *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"))
    for name in [name for name in sys.modules if name.startswith(f"{prefix}.")]:
        sys.modules[PACKAGE + name.removeprefix(prefix)] = sys.modules[name]
    BENCHES[names[0]](host)


if __name__ == "__main__":
    main(sys.argv[1:])
