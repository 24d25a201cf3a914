"""The processes that share long work."""

from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context


def pool_of(processes: int) -> Executor:
    """Processes that begin afresh: one that is forked while torch's threads run may hang. A single one is this one."""
    return ThreadPoolExecutor(1) if processes == 1 else ProcessPoolExecutor(processes, mp_context=get_context("spawn"))
