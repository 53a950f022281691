"""What a cluster is doing: its figures, who waits for whom, and why its autoscaler brings no machine."""

__all__: list[str] = []
