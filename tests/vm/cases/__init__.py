"""The stories, one file a subject."""

from dataclasses import dataclass
from typing import Callable


@dataclass
class Story:
    """A series of tests that share a machine."""

    name: str
    run: Callable
