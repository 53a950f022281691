"""A child of IndexPool that misbehaves on files with certain names, and is honest with all others."""

import ctypes
import os
import signal
import sys
import time

from cineray.index import index_video
from cineray.index.child import serve

held = []


def index(file, **options):
    match file.name:
        case "segfault":
            ctypes.string_at(0)
        case "abort":
            os.abort()
        case "exit":
            print("last words of a library", file=sys.stderr, flush=True)
            os._exit(3)
        case "hang":
            time.sleep(1000)
        case "spin":
            while True:
                pass
        case "eat memory":
            held.append(bytearray(8 << 30))
        case "killed for memory":
            os.kill(os.getpid(), signal.SIGKILL)
        case "chatter":
            os.write(1, b"x" * (1 << 20))
            os.write(2, b"y" * (1 << 20))
        case "bug":
            raise KeyError("surprise")
    return index_video(file, **options)


serve(index)
