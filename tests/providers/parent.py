"""A program that loads a model and waits, for tests that kill it.

    python -m tests.providers.parent MODEL_FILE [LLAMA_SERVER]

It prints a line of its children's process numbers when the load has begun, and another when the model answers.
"""

import asyncio
import sys
from pathlib import Path

import psutil

from wilson.domain.model import Endpoint, ModelSpec, Patience, ProviderKind
from wilson.providers.llamacpp import LlamaCppProvider


async def main(file: Path, command: str | None) -> None:
    endpoint = Endpoint(name="here", provider=ProviderKind.LLAMACPP, command=command)
    provider = LlamaCppProvider(endpoint, Patience(), folders=(file.parent,))
    begun = False

    def tell() -> None:
        print(*(child.pid for child in psutil.Process().children(recursive=True)), flush=True)

    def progress(share: float | None) -> None:
        nonlocal begun
        if not begun:
            tell()
        begun = True

    await provider.load(ModelSpec(endpoint="here", name=str(file), context=4096, threads=1), progress)
    tell()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None))
