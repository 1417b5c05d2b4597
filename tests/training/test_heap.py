"""Memory that is freed and asked for again."""

import platform
import resource

import pytest
import torch

from finetune.training.heap import keep_freed_memory


def faults_of(count):
    """Returns how many pages the kernel had to provide while tensors of 4 MiB came and went."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(count):
        torch.empty(2**20).fill_(1.0)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told")
def test_the_memory_of_freed_tensors_is_used_again():
    keep_freed_memory()
    faults_of(50)  # the heap grows to what is needed
    assert faults_of(50) < 1024  # one tensor has as many pages
