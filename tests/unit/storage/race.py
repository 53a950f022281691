"""One racer of a put-if-absent race: `race.py PREFIX CONTENT N` tries N names and prints those that it won."""

from __future__ import annotations

import sys
import time

from cineray.storage import put_if_absent

prefix, content, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
for name in range(number):
    # All racers wait for the same tenth of a second, so that they really meet.
    time.sleep(0.1 - time.time() % 0.1)
    if put_if_absent(f"{prefix}/race/{name}", content.encode()):
        print(name)
