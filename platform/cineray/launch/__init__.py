"""Where it runs: a job goes in, a Ray job on a cluster comes out; and what such a cluster needs beside Ray.

    compose.py                 what a user types, made definite
    submission.py              what is sent: words, names, environment; the same job is the same submission
    package.py, working_tree.py  what travels: code and jobs, no data, nothing that git ignores, no secrets
    places.py                  places of a job that mean something else on another machine
    cluster_parts.py           which nodes of the cluster decode, and whether it trains on GPUs
    references.py              secrets by name or file, never by value
    clients.py, sending.py     Ray's job API: versions, attempts, stopping
    follow.py, outcome.py      live logs, the verdict and the exit code
    start.py                   the first thing that runs on the cluster
    cluster/                   descriptions of clusters, put together, checked and sized
    observe/                   what a cluster is doing: its figures, and who waits for whom
    nodes/                     what runs beside Ray on each node

Nothing is imported here: small programs that run on every node of a cluster live in this folder too.
"""

__all__: list[str] = []
