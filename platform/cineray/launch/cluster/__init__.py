"""Descriptions of clusters: read, put together, checked by schemas and rules, sized, and fitted to a job."""

__all__: list[str] = []
