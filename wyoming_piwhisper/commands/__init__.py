"""The subcommands: each module adds its parser and runs it; nothing heavy is imported before it runs."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    # The library gives this class no public name.
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001
