"""A model on the Hugging Face hub, of which only the bytes that are needed are fetched.

Cost of reading a head that is not in the local cache: the list of files, config.json, the
header of one .safetensors file and the head's own bytes, whatever the size of the model.  A
.bin or .gguf file is downloaded whole, into the usual cache.  `HF_HOME`, `HF_ENDPOINT`,
`HF_TOKEN` and `HF_HUB_OFFLINE` work as everywhere.
"""

import json
import struct
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from wideneck.errors import WideneckError
from wideneck.files.boundary import reason
from wideneck.models.folder import STANDARD, Folder, open_tensors
from wideneck.models.tensor_file import SAFETENSORS_DTYPES, TensorFile, dtype_name

CHUNK = 64 * 2**20
"""Bytes a request: large enough to be fast, small against the head it is copied into."""
LARGEST_HEADER = 100_000_000
"""As the safetensors format itself allows."""
# Asked for in the cache when the hub cannot list its files.
KNOWN = (
    *STANDARD,
    "config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)


class HubFolder(Folder):
    """One revision of one model on the hub; `names` is asked first."""

    def __init__(self, repo: str, revision: str | None):
        self._repo = repo
        self._revision = revision
        # What the revision stands for today, once the hub has said so: all pieces of one model
        # come from one commit, and a stale file in the cache is not taken for the current one.
        self._commit = revision
        self._names: list[str] | None = None
        self._reached = False

    def names(self) -> list[str]:
        """The names of the files, from the hub, or from the local cache without a network."""
        if self._names is None:
            try:
                self._commit, self._names = self._listed()
                self._reached = True
            except WideneckError:
                self._names = [name for name in KNOWN if self._cached(name)]
                if not set(self._names).intersection(STANDARD):
                    raise
        return self._names

    def path(self, name: str) -> Path:
        """The whole file, downloaded into the cache if it is not there."""
        cached = self._cached(name)
        if cached:
            return cached
        from huggingface_hub import hf_hub_download

        self._refuse_unreached(name)
        with self._reaching():
            # By the revision's own name, so that a later call without a network finds it.
            return Path(hf_hub_download(self._repo, name, revision=self._revision))

    def tensors(self, name: str) -> TensorFile:
        """The cached file where there is one; else .safetensors by ranges, .bin downloaded."""
        if not name.endswith(".safetensors"):
            return open_tensors(self.path(name))
        cached = self._cached(name)
        if cached:
            return open_tensors(cached)
        self._refuse_unreached(name)
        return RemoteSafetensors(self, name)

    @property
    def pretrained(self) -> tuple[str, str | None]:
        """The id and the revision."""
        return self._repo, self._revision

    def fetch(self, name: str, start: int, stop: int) -> bytes:
        """Bytes start..stop of a file."""
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, http_backoff

        url = hf_hub_url(self._repo, name, revision=self._commit)
        headers = {**build_hf_headers(), "Range": f"bytes={start}-{stop - 1}"}
        with self._reaching():
            response = http_backoff("GET", url, headers=headers)
            hf_raise_for_status(response)
        if len(response.content) != stop - start:
            raise WideneckError(
                f"{name} of {self} ends early, or its server cannot send a part of a file: asked "
                f"for {stop - start} bytes at {start}, got {len(response.content)}."
            )
        return response.content

    def __str__(self) -> str:
        return self._repo if self._revision is None else f"{self._repo}@{self._revision}"

    def _cached(self, name: str) -> Path | None:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(self._repo, name, revision=self._commit)
        return Path(found) if isinstance(found, str) else None

    def _listed(self) -> tuple[str | None, list[str]]:
        """Commit and files, in one request that fails at once where there is no network."""
        from huggingface_hub import HfApi

        with self._reaching():
            info = HfApi().model_info(self._repo, revision=self._revision, timeout=10)
        return info.sha, sorted(file.rfilename for file in info.siblings or [])

    def _refuse_unreached(self, name: str) -> None:
        """Rather than try again and again where listing the files has failed already."""
        if not self._reached and self._names is not None:
            raise WideneckError(
                f"{self} is only partly in the local cache ({name} is missing) and the hub could "
                "not be reached: connect to the network (HF_HUB_OFFLINE unset), or give the path "
                "of a folder."
            )

    @contextmanager
    def _reaching(self) -> Generator[None, None, None]:
        from huggingface_hub.errors import (
            EntryNotFoundError,
            OfflineModeIsEnabled,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )

        try:
            yield
        except OfflineModeIsEnabled as error:
            raise WideneckError(
                f"HF_HUB_OFFLINE is set and {self} is not in the local cache, nor is it a file or "
                "folder here: unset it, or give the path of a downloaded model."
            ) from error
        except RevisionNotFoundError as error:
            raise WideneckError(
                f"{self._repo} on Hugging Face has no revision {self._revision!r}: give one of its "
                "branches, tags or commits after the @."
            ) from error
        except RepositoryNotFoundError as error:  # and its kind, GatedRepoError
            raise WideneckError(
                f"{self} is neither a file or folder here nor a Hugging Face model that you may "
                "read: check the spelling, or run `hf auth login` if it is private or gated."
            ) from error
        except EntryNotFoundError as error:
            raise WideneckError(f"{self} on Hugging Face lacks a file: {reason(error)}") from error
        # The hub's client lets errors of its transport through, and changes its transport
        # (requests, httpx, httpx2), so there is no family of exceptions to name here.
        except Exception as error:
            raise WideneckError(
                f"{self} is no file or folder here, and Hugging Face could not be reached for it "
                f"({reason(error)}): check the network, or give the path of a downloaded model."
            ) from error


class RemoteSafetensors(TensorFile):
    """A .safetensors file on the hub: its header now, its tensors by byte range."""

    def __init__(self, folder: HubFolder, name: str):
        self._folder = folder
        self._name = name
        (size,) = struct.unpack("<Q", folder.fetch(name, 0, 8))
        if size > LARGEST_HEADER:
            raise WideneckError(f"{name} of {folder} is not a safetensors file.")
        try:
            self._header = json.loads(folder.fetch(name, 8, 8 + size))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise WideneckError(f"{name} of {folder} is not a safetensors file.") from error
        self._header.pop("__metadata__", None)
        self._start = 8 + size

    def names(self) -> list[str]:
        """Every tensor's name."""
        return list(self._header)

    def shape(self, name: str) -> tuple[int, ...]:
        """The tensor's shape, from the header."""
        return tuple(self._header[name]["shape"])

    def dtype(self, name: str) -> str:
        """The storage type."""
        return dtype_name(self._header[name]["dtype"])

    def rows(self, name: str, start: int, stop: int) -> Tensor:
        """Rows start..stop, fetched piece by piece into one tensor."""
        begin, end = self._header[name]["data_offsets"]
        row = (end - begin) // max(1, self.shape(name)[0])
        begin, end = self._start + begin + start * row, self._start + begin + stop * row
        data = bytearray(end - begin)
        for at in range(begin, end, CHUNK):
            upto = min(at + CHUNK, end)
            data[at - begin : upto - begin] = self._folder.fetch(self._name, at, upto)
        dtype = SAFETENSORS_DTYPES[self._header[name]["dtype"]]
        shape = (stop - start, *self.shape(name)[1:])
        if not data:
            return torch.empty(shape, dtype=dtype)
        return torch.frombuffer(data, dtype=dtype).reshape(shape)
