"""The fenced blocks of a Markdown file, in order."""

import re
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^```([a-z]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block: its language and its text."""

    language: str
    text: str


def blocks(file: Path) -> list[Block]:
    """Every fenced block of the file."""
    return [Block(language, text) for language, text in _FENCE.findall(file.read_text("utf-8"))]
