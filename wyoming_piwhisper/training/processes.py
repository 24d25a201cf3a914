"""The processes that share long work."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context


def pool_of(processes: int) -> ProcessPoolExecutor:
    """Processes that begin afresh: one that is forked while torch's threads run may hang."""
    return ProcessPoolExecutor(processes, mp_context=get_context("spawn"))
