"""What a machine and a process tree are doing: memory, processor seconds; how a Ray is started quietly, how work is
dealt out to it, and what was typed.
"""

__all__: list[str] = []
