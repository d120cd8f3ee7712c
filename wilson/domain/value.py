"""What values are made of: frozen structs, of which a changed one is a new one.

They come from msgspec, because a class made by ``dataclasses`` takes a millisecond and more to define, and a program
with a hundred of them starts a fifth of a second later.
"""

from msgspec import Struct, field
from msgspec.structs import replace

__all__ = ["Struct", "field", "replace"]
