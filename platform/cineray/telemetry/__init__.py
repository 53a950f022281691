"""What a machine and a process tree are doing: memory, processor seconds; and how a Ray is started quietly."""

__all__: list[str] = []
