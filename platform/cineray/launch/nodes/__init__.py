"""Small programs that run beside Ray on each node: its keeper, the watcher of the cloud's notices, what is sold out."""

__all__: list[str] = []
