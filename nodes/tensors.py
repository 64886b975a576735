"""Tensors by content and by time: keys of what is in them, and a memory that drops the oldest. Knows torch, not ComfyUI."""

import hashlib
import weakref
from collections import OrderedDict

import torch


def content_key(tensor: torch.Tensor) -> bytes:
    """A digest of shape and content of a tensor."""
    digest = hashlib.blake2b(repr(tuple(tensor.shape)).encode(), digest_size=16)
    digest.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy())
    return digest.digest()


_tokens: "weakref.WeakKeyDictionary" = weakref.WeakKeyDictionary()
_issued = 0


def token(living) -> int:
    """A number for an object that no other object ever gets, for keys of what was made with it (an id() is given again)."""
    global _issued
    number = _tokens.get(living)
    if number is None:
        _issued += 1
        number = _tokens[living] = _issued
    return number


class TensorMemory:
    """Tensors by key, kept in main memory and given back on their own device, the least recently used dropped beyond `limit` bytes."""

    def __init__(self, limit: int):
        self.limit, self._size = limit, 0
        self._kept: OrderedDict[tuple, torch.Tensor] = OrderedDict()
        self._devices: dict[tuple, torch.device] = {}

    def get(self, key: tuple, make) -> torch.Tensor:
        """The tensor of a key, made when it is not there."""
        found = self.look(key)
        if found is None:
            found = make()
            self.keep(key, found)
        return found

    def look(self, key: tuple) -> torch.Tensor | None:
        if key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return self._kept[key].to(self._devices[key])

    def keep(self, key: tuple, tensor: torch.Tensor) -> None:
        self.drop(key)
        # A view would keep the whole of what it is a part of.
        kept = tensor.cpu()
        self._kept[key] = kept.clone() if kept.untyped_storage().nbytes() > kept.nbytes else kept
        self._devices[key] = tensor.device
        self._size += tensor.nbytes
        while self._size > self.limit and len(self._kept) > 1:
            self.drop(next(iter(self._kept)))

    def drop(self, key: tuple) -> None:
        self._devices.pop(key, None)
        gone = self._kept.pop(key, None)
        if gone is not None:
            self._size -= gone.nbytes

    def clear(self) -> None:
        self._kept.clear()
        self._devices.clear()
        self._size = 0
