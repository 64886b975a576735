"""What the two trainers of kohya-ss share: the files that a job consists of, in TOML and JSON. What stands in them is musubi_tuner.py's and sd_scripts.py's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import PurePosixPath

from ...installation import needed
from .job import Job, caption_files, worded
from .known_keys import checked_keys

DATASET, TRAINING, PROMPTS = PurePosixPath("dataset.toml"), PurePosixPath("train.toml"), PurePosixPath("sample_prompts.json")


class Kohya:
    """A trainer of kohya-ss, to be given its name, `_dataset`, `_training` and `_prompts`."""

    name: str

    def sidecars(self, job: Job) -> Mapping[PurePosixPath, bytes]:
        return {
            DATASET: toml_bytes(self._dataset(job)),
            TRAINING: toml_bytes(self._training(job)),
            # JSON, since in its text files ` --` begins an option and # a comment.
            PROMPTS: self._sample_file(job),
            **caption_files(job, lambda caption: worded(caption, job.trigger)),
        }

    def config(self) -> PurePosixPath:
        return DATASET

    def _sample_file(self, job: Job) -> bytes:
        prompts = self._prompts(job)
        for prompt in prompts:
            checked_keys(self.name, "samples", prompt)
        return json.dumps(prompts, ensure_ascii=False, indent=2).encode()

    def _dataset(self, job: Job) -> Mapping[str, object]:
        raise NotImplementedError

    def _training(self, job: Job) -> Mapping[str, object]:
        raise NotImplementedError

    def _prompts(self, job: Job) -> list[dict[str, object]]:
        raise NotImplementedError


def toml_bytes(content: Mapping[str, object]) -> bytes:
    with needed("tomli_w"):
        import tomli_w

    return tomli_w.dumps(content).encode()
