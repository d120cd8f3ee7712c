"""What the machine itself says of its memory."""

import psutil

from wilson.domain.value import Struct


class MachineMemory(Struct, frozen=True):
    """In units of 2**20 bytes."""

    total_mb: int
    available_mb: int
    """What programs can have without swapping; free memory alone says little."""


def machine_memory() -> MachineMemory:
    memory = psutil.virtual_memory()
    return MachineMemory(memory.total >> 20, memory.available >> 20)
