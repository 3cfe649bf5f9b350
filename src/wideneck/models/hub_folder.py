"""A model on the Hugging Face hub, of which only the bytes that are needed are fetched.

Cost of reading a head that is not in the local cache: the list of files, config.json, the
header of one .safetensors file and the head's own bytes, whatever the size of the model.  A
.bin or .gguf file is downloaded whole, into the usual cache.  `HF_HOME`, `HF_ENDPOINT`,
`HF_TOKEN` and `HF_HUB_OFFLINE` work as everywhere.
"""

import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wideneck.errors import WideneckError
from wideneck.files.boundary import failing, reading, reason
from wideneck.files.regular import check_name
from wideneck.models.config_file import CONFIG
from wideneck.models.folder import STANDARD, Folder, open_tensors
from wideneck.models.safetensors_file import BROKEN, Safetensors, header_length
from wideneck.models.tensor_file import TensorFile
from wideneck.models.tokens import FILES

CHUNK = 64 * 2**20
"""Bytes per request: large enough to be fast, small against the head it is copied into."""
# Asked for in the cache when the hub cannot list its files.
KNOWN = (*STANDARD, CONFIG, *FILES, "tokenizer.model", "modules.json")


class HubFolder(Folder):
    """One revision of one model on the hub, by `id` or `id@revision`; `names` is asked first."""

    def __init__(self, name: str):
        self._repo, _, revision = name.partition("@")
        self._revision = revision or None
        # What the revision stands for today, once the hub has said so: all pieces of one model
        # come from one commit, and a stale file in the cache is not taken for the current one.
        self._commit = self._revision
        self._names: list[str] | None = None
        self._reached = False

    def names(self) -> list[str]:
        """The names of the files, from the hub, or from the local cache without a network."""
        if self._names is None:
            from huggingface_hub import HfApi

            try:
                with failing(self._said):  # in one request, which fails at once without a network
                    info = HfApi().model_info(self._repo, revision=self._revision, timeout=10)
                files = info.siblings or []
                self._commit, self._names = info.sha, sorted(file.rfilename for file in files)
                self._reached = True
            except WideneckError:
                self._names = [name for name in KNOWN if self.cached(name)]
                if not set(self._names).intersection(STANDARD):
                    raise
        return self._names

    def path(self, name: str) -> Path:
        """The whole file, downloaded into the cache if it is not there."""
        check_name(name, f"The list of files of {self}")
        cached = self._cached_or_reached(name)
        if cached:
            return cached
        from huggingface_hub import hf_hub_download

        with failing(self._said):
            # By the revision's own name, so that a later call without a network finds it.
            return Path(hf_hub_download(self._repo, name, revision=self._revision))

    def tensors(self, name: str) -> TensorFile:
        """The cached file where there is one; else .safetensors by ranges, .bin and .pt whole."""
        if not name.endswith(".safetensors"):
            return open_tensors(self.path(name))
        cached = self._cached_or_reached(name)
        return open_tensors(cached) if cached else RemoteSafetensors(self, name)

    @property
    def pretrained(self) -> tuple[str, str | None]:
        return self._repo, self._revision

    def fetch(self, name: str, start: int, stop: int) -> tuple[bytes, int]:
        """Bytes start..stop of a file, and how many the whole file has."""
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, http_backoff

        with failing(self._said):
            url = hf_hub_url(self._repo, name, revision=self._commit)
            headers = {**build_hf_headers(), "Range": f"bytes={start}-{stop - 1}"}
            response = http_backoff("GET", url, headers=headers)
            hf_raise_for_status(response)
            content = response.content
            said = response.headers.get("Content-Range", "")
        total = re.fullmatch(r"bytes [0-9]+-[0-9]+/([0-9]{1,18})", said)
        if len(content) != stop - start or total is None:
            raise WideneckError(
                f"{name} of {self} ends early, or its server cannot send a part of a file: asked "
                f"for {stop - start} bytes at {start}, got {len(content)}."
            )
        return content, int(total[1])

    def __str__(self) -> str:
        return self._repo if self._revision is None else f"{self._repo}@{self._revision}"

    def cached(self, name: str) -> Path | None:
        """Where the local cache keeps a file."""
        from huggingface_hub import try_to_load_from_cache

        with reading(self, name, "give the path of a downloaded model"):
            found = try_to_load_from_cache(self._repo, name, revision=self._commit)
        return Path(found) if isinstance(found, str) else None

    def _cached_or_reached(self, name: str) -> Path | None:
        """As `cached`; not tried again and again where listing the files has failed already."""
        cached = self.cached(name)
        if cached is None and not self._reached and self._names is not None:
            raise WideneckError(
                f"{self} is only partly in the local cache ({name} is missing) and the hub could "
                "not be reached: connect to the network (HF_HUB_OFFLINE unset), or give the path "
                "of a folder."
            )
        return cached

    def _said(self, error: BaseException) -> str:
        """The sentence for a file that is far away: what went wrong decides what to do."""
        from huggingface_hub.errors import (
            EntryNotFoundError,
            OfflineModeIsEnabled,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )

        said = {
            OfflineModeIsEnabled: f"HF_HUB_OFFLINE is set and {self} is not in the local cache, "
            "nor is it a file or folder here: unset it, or give the path of a downloaded model.",
            RevisionNotFoundError: f"{self._repo} on Hugging Face has no revision "
            f"{self._revision!r}: give one of its branches, tags or commits after the @.",
            # and its kind, GatedRepoError
            RepositoryNotFoundError: f"{self} is neither a file or folder here nor a Hugging Face "
            "model that you may read: check the spelling, or run `hf auth login` if it is private "
            "or gated.",
            EntryNotFoundError: f"{self} on Hugging Face lacks a file: {reason(error)}",
            BaseException: f"{self} is no file or folder here, and Hugging Face could not be "
            f"reached for it ({reason(error)}): check the network, or give the path of a "
            "downloaded model.",
        }
        return next(sentence for kind, sentence in said.items() if isinstance(error, kind))


class RemoteSafetensors(Safetensors):
    """A .safetensors file on the hub: its header now, its tensors by byte range."""

    def __init__(self, folder: HubFolder, name: str):
        super().__init__(f"{name} of {folder}")
        self._folder = folder
        self._name = name
        first, size = folder.fetch(name, 0, 8)
        with reading(self.title, "its header", BROKEN):
            header, _ = folder.fetch(name, 8, 8 + header_length(first, size))
            self._parse(header, size)

    def _bytes(self, begin: int, end: int) -> Tensor:
        """Fetched piece by piece into one tensor."""
        data = torch.empty(end - begin, dtype=torch.uint8)
        for at in range(begin, end, CHUNK):
            upto = min(at + CHUNK, end)
            piece, _ = self._folder.fetch(self._name, at, upto)
            data.numpy()[at - begin : upto - begin] = np.frombuffer(piece, np.uint8)
        return data
