"""The command line: words to stderr, results to stdout; a table for people, JSON for pipes; errors in four parts."""

__all__: list[str] = []
