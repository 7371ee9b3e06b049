"""Lets numpydoc compile its template once instead of for each of some thousand docstrings."""

from __future__ import annotations

from functools import partial
from types import CodeType
from typing import Any

from jinja2.bccache import Bucket, BytecodeCache
from jinja2.sandbox import SandboxedEnvironment
from numpydoc import docscrape_sphinx


class InMemory(BytecodeCache):
    """Compiled templates by name and by what they were compiled from."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str], CodeType | None] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        """Give the code of a template, if it was compiled before."""
        bucket.code = self._held.get((bucket.key, bucket.checksum))

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keep the code of a template."""
        self._held[bucket.key, bucket.checksum] = bucket.code


def setup(app: Any) -> dict[str, bool]:
    """Give the environments that numpydoc makes, one for each docstring, a common memory."""
    docscrape_sphinx.SandboxedEnvironment = partial(SandboxedEnvironment, bytecode_cache=InMemory())
    return {"parallel_read_safe": True, "parallel_write_safe": True}
