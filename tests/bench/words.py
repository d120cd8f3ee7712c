"""A reply of a thousand tokens as chat models write them: paragraphs, a list, and blocks of code."""

import re

_PROSE = (
    "A mutex lets **one** thread at a time into a piece of code; everybody else waits at the door. It is the plainest "
    "way to keep two writers apart, and like every door it costs a little time to open and to close.\n\n"
)
_LIST = "1. take the lock\n2. do the work, and as *little* of it as possible\n3. give the lock back, `finally`\n\n"
_STEPS = "".join(
    f"def step_{number}(lock, data):\n    with lock:\n        data[{number}] = data.get({number}, 0) + 1\n\n"
    for number in range(8)
)
_CODE = f"```python\n{_STEPS}```\n\n"
_TEXT = (_PROSE * 4 + _LIST + _CODE) * 3

REPLY = re.findall(r"\s*\S+", _TEXT)[:1000]
