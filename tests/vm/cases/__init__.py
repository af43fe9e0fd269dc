"""The stories, one file a subject; boot/, gate/ and updates/ hold those of one room."""

from dataclasses import dataclass
from typing import Callable, Optional


@dataclass
class Story:
    """A series of tests that share a machine."""

    name: str
    run: Callable
    ahead: Optional[Callable] = None        # makes what it needs beside a disk and vfguard itself, for main.py --images
    long: bool = False                      # only with --full, or where it is named
