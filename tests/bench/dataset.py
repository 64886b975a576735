"""Speed and memory of the LoRA-dataset room, as ratios of one run: `python -m tests.bench.dataset [NAME...] [-n PICTURES] [--grain LEVELS]`.

Names: whole (audit and export), export, duplicates; default all. Nothing is asserted: the figures are printed for whoever reads them. Each measurement runs in a process of its own, so
that its peak of memory is its own. The pictures are gradients and shapes without noise; --grain adds noise of that standard deviation, which makes
them as hard to compress as photographs (about 3).
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from tests.conftest import ROOT, make_package_importable

SIDE = 1024
# A picture is drawn so small and enlarged, which takes a tenth of the time of drawing it at its size.
DRAWN = 128


def make_album(folder: Path, count: int, grain: float) -> Path:
    """`count` pictures of 1 MP, JPEG and PNG in turns, each with a caption."""
    from PIL import Image

    from tests.tiny.exports import TRIGGER, drawn

    folder.mkdir(parents=True)

    def make(number: int) -> None:
        picture = Image.fromarray(drawn(number, DRAWN, DRAWN)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        if grain:
            noise = np.random.default_rng(number).normal(0, grain, (SIDE, SIDE, 3))
            picture = Image.fromarray((np.asarray(picture) + noise).clip(0, 255).astype(np.uint8))
        # As hosts and cameras save them: PNG with a text chunk, so that it is no copy of what an export writes.
        options = {"quality": 92} if number % 2 else {"compress_level": 1, "dpi": (72, 72)}
        picture.save(folder / f"p{number:05}.{'jpg' if number % 2 else 'png'}", **options)
        (folder / f"p{number:05}.txt").write_text(f"{TRIGGER}, portrait, scene number {number}", encoding="utf-8")

    with ThreadPoolExecutor() as pool:
        list(pool.map(make, range(count)))
    return folder


def apart(work: str, **arguments) -> dict:
    """Do one of WORKS in a process of its own; gives what it gives, with its `seconds` and `peak` of resident bytes."""
    command = [sys.executable, "-m", "tests.bench.dataset", "--work", work, json.dumps(arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def say(name: str, figure: str, wanted: str, detail: str = "") -> None:
    print(f"{name}: {figure} (wanted {wanted}){f'; {detail}' if detail else ''}", flush=True)


def growth(whole: dict, quarter: dict, count: int) -> str:
    """Numbers and a thumbnail are kept of each picture; what the allocator does not give back comes on top, another amount in each run."""
    return f"{(whole['peak'] - quarter['peak']) / (count - count // 4) / 1024:.0f} KiB for each further picture"


# --- export ---


def work_export(album: str, out: str, limit: int) -> dict:
    from tests.tiny.exports import dataset_of, export

    dataset = dataset_of(Path(album))
    result = export(dataset.with_items(dataset.items[:limit]), Path(out))
    return {"made": len(result.difference.new)}


def bench_export(folder: Path, count: int, grain: float) -> None:
    album = str(make_album(folder / "album", count, grain))
    quarter = apart("export", album=album, out=str(folder / "quarter"), limit=count // 4)
    first = apart("export", album=album, out=str(folder / "out"), limit=count)
    again = apart("export", album=album, out=str(folder / "out"), limit=count)
    say("export", f"{count / first['seconds']:.1f} pictures/s", "10 with the audit, see whole", f"{count} pictures of 1 MP in {first['seconds']:.1f} s")
    say("export again, nothing changed", f"{again['seconds'] / first['seconds']:.1%} of the first time", "5% at most", f"{again['seconds']:.2f} s")
    say("memory of the export, peak", f"{first['peak'] / 2**20:.0f} MiB", "under 700 MB", f"{again['peak'] / 2**20:.0f} MiB when nothing changed")
    say("memory of the export over that of a quarter of the pictures", f"{first['peak'] / quarter['peak']:.2f}", "flat", growth(first, quarter, count))


# --- audit and export together ---


def work_whole(album: str, out: str, limit: int) -> dict:
    """What `likeness curate` does without a recognizer: audit, contact sheets, report, export."""
    from character_likeness.nodes.lora_dataset.audit import audit
    from character_likeness.nodes.lora_dataset.curation import sheet_files, sheets_of
    from character_likeness.nodes.lora_dataset.export import carry_out, plan_export
    from character_likeness.nodes.lora_dataset.sheet import report
    from tests.tiny.exports import dataset_of, options

    dataset = dataset_of(Path(album))
    result = audit(dataset.with_items(dataset.items[:limit]))
    done = carry_out(plan_export(result.dataset, options(Path(out)), report(result), sheet_files(sheets_of(result))))
    return {"made": len(done.difference.new)}


def bench_whole(folder: Path, count: int, grain: float) -> None:
    album = str(make_album(folder / "whole album", count, grain))
    quarter = apart("whole", album=album, out=str(folder / "whole quarter"), limit=count // 4)
    first = apart("whole", album=album, out=str(folder / "whole"), limit=count)
    say("audit and export", f"{count / first['seconds']:.1f} pictures/s", "10", f"{count} pictures of 1 MP in {first['seconds']:.1f} s")
    say("memory of audit and export, peak", f"{first['peak'] / 2**20:.0f} MiB", "under 700 MB")
    say("memory of audit and export over that of a quarter of the pictures", f"{first['peak'] / quarter['peak']:.2f}", "flat", growth(first, quarter, count))


# --- duplicates ---


def hashes(count: int, kind: str) -> list[int]:
    """64-bit hashes: all apart, or in clusters of fifty that differ in up to three bits of their middle."""
    draw = np.random.default_rng(5)
    if kind == "apart":
        return [int(value) for value in draw.integers(0, 2**63, count)]
    middles = draw.integers(0, 2**63, max(1, count // 50))
    flips = [sum(1 << int(bit) for bit in draw.choice(63, draw.integers(0, 4), replace=False)) for _ in range(count)]
    return [int(middles[i % len(middles)]) ^ flips[i] for i in range(count)]


def work_duplicates(count: int, kind: str) -> dict:
    from character_likeness.nodes.lora_dataset.duplicates import near_duplicates

    given, best = hashes(count, kind), float("inf")
    for _ in range(5):
        start = time.perf_counter()
        near_duplicates(given)
        best = min(best, time.perf_counter() - start)
    return {"best": best}


def bench_duplicates(_folder: Path, _count: int, _grain: float) -> None:
    for kind in ("apart", "clustered"):
        few, many = (apart("duplicates", count=count, kind=kind)["best"] / count for count in (1000, 20000))
        say(
            f"duplicates, {kind}: time per hash of 20,000 over that of 1,000",
            f"{many / few:.2f}",
            "3 at most",
            f"{few * 1e6:.0f} and {many * 1e6:.0f} us a hash",
        )


WORKS = {"export": work_export, "whole": work_whole, "duplicates": work_duplicates}
BENCHES = {"whole": bench_whole, "export": bench_export, "duplicates": bench_duplicates}


def do(work: str, arguments: dict) -> None:
    start = time.perf_counter()
    result = WORKS[work](**arguments)
    print(json.dumps({**result, "seconds": time.perf_counter() - start, "peak": peak_memory()}))


def peak_memory() -> int:
    """The most bytes that this process has had in memory."""
    try:
        # ru_maxrss would begin with what the process that started this one had.
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(BENCHES)}; default all")
    parser.add_argument("-n", type=int, default=1000, help="pictures (default 1000)")
    parser.add_argument("--grain", type=float, default=0.0, help="standard deviation of noise in levels (default 0)")
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    make_package_importable()
    if chosen.work:
        do(chosen.work[0], json.loads(chosen.work[1]))
        return
    for name in chosen.names or BENCHES:
        with tempfile.TemporaryDirectory() as folder:
            BENCHES[name](Path(folder), chosen.n, chosen.grain)


if __name__ == "__main__":
    main()
