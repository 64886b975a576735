"""The command `likeness run`: a workflow filled, run on a ComfyUI, its pictures fetched. The host is remote.py's, the workflow api_forms.py's."""

import argparse
import json
import re
import sys
import textwrap
import uuid
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from . import api_forms, remote
from .api_forms import Filling, Form, Prompt
from .errors import InputError
from .files import write_new
from .pictures import read_picture
from .terminal_who import one_line

OK, NOT_ALL_DONE, UNUSABLE = 0, 1, 2

WIDTH = 150
# Of a title, so that the number behind it still fits.
LONGEST_NAME = 120
PREVIEW_KIND = "temp"
EXIT_STATUS = (
    "Exit status: 0 it ran and every output is there, 1 it ran and something failed or nothing passed a gate, 2 wrong use, something missing on the host, "
    "or no host, 130 interrupted."
)


def add_command(commands) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "run",
        help="run a workflow on a ComfyUI",
        description="Fill a workflow, run it on a ComfyUI, and fetch what it makes. Pictures go to that host and to nobody else.",
        epilog=EXIT_STATUS,
    )
    parser.set_defaults(run=_run)
    parser.add_argument("name", nargs="?", metavar="NAME", help="a workflow of this pack, or the beginning of its name; or a .json file in API form")
    parser.add_argument("--list", action="store_true", help="list the workflows and what they take; with NAME, its nodes and their inputs")
    parser.add_argument(
        "--host", default="127.0.0.1:8188", metavar="ADDRESS", help="host:port, or an http or https address with its path (default %(default)s)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="the folder for what it makes; nothing in it is overwritten")
    parser.add_argument("--prompt", metavar="TEXT", help="what is to be seen; for a shot list, the scenes, one a line")
    parser.add_argument("--negative", metavar="TEXT", help="what is not to be seen")
    parser.add_argument(
        "--reference", nargs="+", action="extend", type=Path, default=[], metavar="FILE", help="a picture for each reference of the workflow, in its order"
    )
    parser.add_argument(
        "--picture", nargs="+", action="extend", type=Path, default=[], metavar="FILE", help="a picture for each other one that it loads, in its order"
    )
    parser.add_argument("--lora", metavar="FILE", help="your character's LoRA, by its name on the host; where the workflow has it bypassed, it is switched on")
    parser.add_argument("--seed", type=int, metavar="N", help="for everything that takes one; otherwise the workflow's own")
    parser.add_argument("--aspect", metavar="W:H", help="such as 9:16, at as many pixels as the workflow makes")
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="NODE.INPUT=VALUE",
        help="any input; NODE is an id, a title or a class (--list shows them). Set after the other options",
    )
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="stop the run when it takes longer (default: never)")
    parser.add_argument("--json", metavar="FILE|-", help="write what happened there, or to standard output; an existing file is refused")


def _run(options) -> int:
    if options.list:
        _list(options.name)
        return OK
    if not options.name:
        raise InputError('Name a workflow, such as `likeness run "Qwen character scene (2511)"`; `likeness run --list` shows them.')
    if options.out is None:
        raise InputError("Name a folder for what is made with --out DIR.")
    if options.timeout is not None and not 0 < options.timeout < float("inf"):
        raise InputError(f"The timeout {options.timeout:g} must be a number of seconds above 0.")
    if options.out.exists() and not options.out.is_dir():
        raise InputError(f"{options.out} is a file; name a folder with --out.")
    if options.json not in (None, "-") and Path(options.json).exists():
        raise InputError(f"{options.json} exists already and is not overwritten; choose another name for --json.")
    form = api_forms.find(options.name)
    filling, uploads = _filled(form, options)
    with remote.Host(options.host) as host:
        info = host.nodes(sorted({node["class_type"] for node in filling.prompt.values()}))
        if lacking := api_forms.missing(filling.prompt, info, form.models, list(uploads)):
            return _refused([f"{host.name}: {sentence}" for sentence in lacking] + ["Nothing was queued."])
        for slot, path in uploads.items():
            filling.put(slot, host.upload(path))
        _say_what_is_kept(filling)
        return _carried_out(host, filling, info, options)


def _filled(form: Form, options) -> tuple[Filling, dict[str, Path]]:
    """(the workflow with all that needs no host, the picture of each slot). Raises InputError."""
    filling, uploads = Filling(form), {}
    if options.lora is not None:
        filling.lora(options.lora)
    for option in ("prompt", "negative"):
        if getattr(options, option) is not None:
            filling.text(option, getattr(options, option))
    if options.seed is not None:
        filling.seed(options.seed)
    if options.aspect is not None:
        filling.aspect(options.aspect)
    for text in options.set:
        filling.set(text)
    for option in ("reference", "picture"):
        if files := getattr(options, option):
            uploads |= zip(filling.check_files(option, len(files)), files)
    for path in dict.fromkeys(uploads.values()):
        read_picture(path)
    return filling, uploads


def _refused(sentences: list[str]) -> int:
    for sentence in sentences:
        print(f"likeness: {one_line(sentence)}", file=sys.stderr)
    return UNUSABLE


def _say_what_is_kept(filling: Filling) -> None:
    """A picture that nobody named is the workflow's own, which is seldom what is meant."""
    for option in ("reference", "picture"):
        for slot in getattr(filling.fields, option):
            if slot not in filling.filled:
                id_ = slot.split(".")[0]
                kept = filling.prompt[id_]["inputs"]["image"]
                print(f"likeness: no --{option}: {one_line(api_forms.title(filling.prompt, id_))} keeps {one_line(kept)}.", file=sys.stderr)


def _carried_out(host: remote.Host, filling: Filling, info: dict[str, dict], options) -> int:
    prompt, prompt_id = filling.prompt, str(uuid.uuid4())
    messages = host.listen()
    if messages is None:
        print("likeness: the host's socket cannot be had, so the steps of the run are not shown.", file=sys.stderr)
    try:
        prompt_id, left_out = host.queue(prompt, prompt_id)
        with _progress(prompt) as told:
            ran = host.follow(prompt_id, messages, told, options.timeout)
    except remote.RefusedError as error:
        return _refused([str(error), *_by_title(prompt, error.by_node), "Nothing was queued."])
    except KeyboardInterrupt:
        _stop(host, prompt_id, "Ctrl-C")
        raise
    except TimeoutError:
        _stop(host, prompt_id, f"the run took longer than {options.timeout:g} seconds")
        return NOT_ALL_DONE
    finally:
        if messages is not None:
            messages.close()
    problems = [f"{one} It was left out." for one in _by_title(prompt, left_out)]
    written, more = _fetched(host, prompt, ran, info, options.out)
    problems += more + _what_failed(prompt, ran, info)
    for sentence in problems:
        print(f"likeness: {one_line(sentence)}", file=sys.stderr)
    _report(options, filling, host, prompt_id, written, problems)
    for _, path in written:
        # The paths go where the report does not.
        print(one_line(path), file=sys.stderr if options.json == "-" else sys.stdout)
    return NOT_ALL_DONE if problems else OK


def _by_title(prompt: Prompt, by_node: dict[str, list[str]]) -> list[str]:
    return [f"{_called(prompt, node)}: {' '.join(sentences)}" for node, sentences in by_node.items() if sentences]


def _called(prompt: Prompt, node: str) -> str:
    return f"{api_forms.title(prompt, node)} ({node})"


def _stop(host: remote.Host, prompt_id: str, why: str) -> None:
    """Ask once; a second Ctrl-C ends the asking."""
    try:
        state = host.stop(prompt_id)
        done = {"running": "the host was asked to stop the run", "pending": "the run was taken out of the host's queue"}.get(
            state, "the run is not in its queue"
        )
    except remote.HostError as error:
        done = f"the run {prompt_id} may go on there, since the host could not be asked to stop it: {error}"
    print(f"likeness: {why}; {one_line(done).rstrip('.')}.", file=sys.stderr)


@contextmanager
def _progress(prompt: Prompt):
    """A bar for the node that runs, on a terminal's standard error; elsewhere a line for each node. Gives what takes the steps."""
    from tqdm import tqdm

    shown = sys.stderr.isatty()
    state = {"node": None, "count": 0}
    with tqdm(total=0, unit="step", leave=False, disable=not shown, bar_format="{desc} {bar} {n_fmt}/{total_fmt} {postfix}") as bar:

        def told(step: remote.Step) -> None:
            if step.node != state["node"]:
                state["node"] = step.node
                state["count"] += 1
                name = one_line(api_forms.title(prompt, step.node))
                bar.set_description_str(name, refresh=False)
                bar.set_postfix_str("", refresh=False)
                bar.reset(total=0)
                if not shown:
                    print(f"likeness: {state['count']}. {name}", file=sys.stderr, flush=True)
            if step.text:
                bar.set_postfix_str(one_line(step.text), refresh=False)
            if step.of:
                bar.total = step.of
                bar.n = step.done
            bar.refresh()

        yield told


def _is_output(info: dict[str, dict], prompt: Prompt, node: str) -> bool:
    return node in prompt and info.get(prompt[node]["class_type"], {}).get("output_node") is True


def _fetched(host: remote.Host, prompt: Prompt, ran: remote.Ran, info: dict[str, dict], out: Path) -> tuple[list[tuple[str, Path]], list[str]]:
    """([(node, path)], why others were not fetched). What a node in the middle shows of itself, such as a gate's little pictures, is no output."""
    written, problems = [], []
    used = {link[0] for node in prompt.values() for link in node["inputs"].values() if api_forms.is_link(prompt, link)}
    ends = {node for node in prompt if _is_output(info, prompt, node) and node not in used}
    outputs = [output for output in ran.outputs if output.node in ends or (output.kind != PREVIEW_KIND and _is_output(info, prompt, output.node))]
    texts = [(node, text) for node, text in ran.texts if node in ends]
    if outputs or texts:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"The folder {out} cannot be made ({error.strerror}).") from None
    for output in outputs:
        try:
            name = remote.safe_name(output)
            if output.kind == PREVIEW_KIND:
                # Its own name on the host says nothing.
                name = f"{_file_name(prompt, output.node)}{PurePosixPath(name).suffix}"
            written.append((output.node, _written(out / name, host.download(output))))
        except remote.HostError as error:
            problems.append(f"{_called(prompt, output.node)}: {error}")
    for node, text in texts:
        suffix = ".json" if _is_json(text) else ".txt"
        written.append((node, _written(out / f"{_file_name(prompt, node)}{suffix}", text.encode("utf-8", "replace"))))
    return written, problems


def _written(path: Path, content: bytes) -> Path:
    try:
        return write_new(path, content)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}).") from None


def _file_name(prompt: Prompt, node: str) -> str:
    """A title as a file name that every system takes."""
    name = re.sub(r"[^\w ()+,-]", "_", api_forms.title(prompt, node)).strip(" ._")
    return f"{name[:LONGEST_NAME].strip()}_{node}" if re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d)?", name) else name[:LONGEST_NAME].strip()


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return False


def _what_failed(prompt: Prompt, ran: remote.Ran, info: dict[str, dict]) -> list[str]:
    """Sentences: what ended the run, gates that nothing passed, savers that got nothing."""
    if ran.interrupted:
        return ["The run was interrupted on the host."]
    if ran.error:
        node, sentence = ran.error
        return [f"{_called(prompt, node)}: {sentence}" if node else sentence]
    gave = {output.node for output in ran.outputs} | {node for node, _ in ran.texts}
    sentences = []
    for node in prompt:
        if node in gave or not _is_output(info, prompt, node):
            continue
        if gate := _gate_before(prompt, node):
            sentences.append(f"{_called(prompt, node)} got nothing: no picture passed {_called(prompt, gate)}.")
        elif prompt[node]["class_type"].startswith("Save"):
            sentences.append(f"{_called(prompt, node)} got nothing.")
    return sentences or ([] if gave else ["The run gave nothing."])


def _gate_before(prompt: Prompt, node: str) -> str | None:
    """The nearest gate on whose `passed`, its first output, a node hangs; the other sides of a gate may well be empty."""
    seen, waiting = set(), [node]
    while waiting:
        for link in prompt[waiting.pop(0)]["inputs"].values():
            if not api_forms.is_link(prompt, link) or link[0] in seen:
                continue
            if prompt[link[0]]["class_type"] not in api_forms.GATES:
                seen.add(link[0])
                waiting.append(link[0])
            elif link[1] == 0:
                return link[0]
    return None


def _report(options, filling: Filling, host: remote.Host, prompt_id: str, written: list[tuple[str, Path]], problems: list[str]) -> None:
    if options.json is None:
        return
    prompt = filling.prompt
    told = {
        "workflow": filling.form.name,
        "host": host.name,
        "prompt_id": prompt_id,
        "filled": filling.filled,
        "outputs": [{"node": node, "title": api_forms.title(prompt, node), "class": prompt[node]["class_type"], "path": str(path)} for node, path in written],
        "problems": problems,
    }
    # ASCII, so that it is the same in every encoding of standard output.
    text = json.dumps(told, indent=1) + "\n"
    if options.json == "-":
        sys.stdout.write(text)
        return
    path = _written(Path(options.json), text.encode("ascii"))
    if path != Path(options.json):
        print(f"likeness: {options.json} has appeared meanwhile and is not overwritten; the report is in {path}.", file=sys.stderr)


# ---- what there is ---------------------------------------------------------------------------------------------------


def _list(name: str | None) -> None:
    if name is not None:
        form = api_forms.find(name)
        print(_heading(form))
        filled = {slot: option for option, slots in _options(form).items() for slot in slots}
        prompt = api_forms.with_lora(form.prompt, form.lora) if form.lora else form.prompt
        for id_, node in prompt.items():
            bypassed = "" if id_ in form.prompt else "  (bypassed; --lora switches it on)"
            print(f"\n{id_}  {one_line(api_forms.title(prompt, id_))}  [{one_line(node['class_type'])}]{bypassed}")
            for key, value in node["inputs"].items():
                if not isinstance(value, list):
                    option = f"  --{filled[f'{id_}.{key}']}" if f"{id_}.{key}" in filled else ""
                    print(f"     {one_line(key)} = {textwrap.shorten(one_line(json.dumps(value, ensure_ascii=False)), WIDTH, placeholder='...')}{option}")
        return
    for known in api_forms.names():
        print(_heading(api_forms.find(known)))


def _options(form: Form) -> dict[str, tuple[str, ...]]:
    return {option: slots for option, slots in vars(form.fields).items() if slots}


def _heading(form: Form) -> str:
    """Name, sentence, and the options; of files, how many."""
    taken = [f"--{option}" + (f" x{len(slots)}" if option in ("reference", "picture") and len(slots) > 1 else "") for option, slots in _options(form).items()]
    lines = [form.name, *([f"    {form.what}"] if form.what else []), f"    {' '.join(taken) or 'no option but --set'}"]
    return "\n".join(map(one_line, lines))
