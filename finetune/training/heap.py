"""The C library's heap, told to keep what training frees for what it needs next."""

from __future__ import annotations

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h
_LARGEST_MMAP_THRESHOLD = 32 * 2**20
_NEVER = 2**31 - 1


def keep_freed_memory() -> None:
    """Has glibc's malloc keep the memory of freed tensors of up to 32 MiB; elsewhere it does nothing.

    By default the kernel is given back each block above 128 KiB, and clears every page of it when it is asked for
    again, which took an eighth of the time of an update on a CPU (scripts/bench/README.md).
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
        library.mallopt(_TRIM_THRESHOLD, _NEVER)
